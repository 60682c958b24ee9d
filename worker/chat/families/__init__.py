"""Which family a chat template belongs to. A table is a file here; a new family is a row in one of them."""

from __future__ import annotations

from worker.chat.families import gemma, harmony, named, objects, tagged, thinking
from worker.chat.families.family import Family

# The first that a template shows gives its calls: the special before the general.
CALLS = (
    harmony.HARMONY,
    gemma.GEMMA,
    tagged.DSML,
    tagged.CODER,
    tagged.GLM,
    named.KIMI,
    named.DEEPSEEK,
    named.MISTRAL,
    objects.COMMAND,
    objects.GRANITE,
    objects.PHI,
    objects.LLAMA,
    objects.HERMES,
)
THOUGHTS = (harmony.HARMONY, gemma.GEMMA, thinking.COMMAND, thinking.BRACKETS, thinking.GRANITE, thinking.THINK)


def choose(template: str) -> Family | None:
    """What a model with this chat template writes; None if it is only text."""
    calls = next((each for each in CALLS if _shown(each, template)), None)
    thoughts = next((each for each in THOUGHTS if _shown(each, template)), None)
    if calls is None or thoughts is None or calls is thoughts:
        return calls or thoughts
    return Family(
        f"{calls.name}+{thoughts.name}",
        (*calls.marks, *thoughts.marks),
        thoughts.thoughts,
        calls.calls,
        (*calls.hidden, *thoughts.hidden),
        calls.short_ids,
        calls.calls_end_thought,
        calls.before or thoughts.before,
        calls.after or thoughts.after,
    )


def _shown(family: Family, template: str) -> bool:
    return any(mark in template for mark in family.marks)
