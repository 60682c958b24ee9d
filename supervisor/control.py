"""Messages between the root and its children, and the channel that carries them; all that a child needs of the root.

    states            what is told: states, phases, facts, entries
    proxy_messages    root ↔ proxy
    worker_messages   root ↔ worker, root ↔ any child
    errand_messages   root ↔ scan, root ↔ download
    channel           one end of a control socket

Messages are small, typed and frozen; the tag is the class name.
"""

from __future__ import annotations

from supervisor.channel import (
    MAX_FDS as MAX_FDS,
)
from supervisor.channel import (
    MAX_INLINE as MAX_INLINE,
)
from supervisor.channel import (
    Channel as Channel,
)
from supervisor.channel import (
    Closed as Closed,
)
from supervisor.errand_messages import (
    Discard as Discard,
)
from supervisor.errand_messages import (
    Discarded as Discarded,
)
from supervisor.errand_messages import (
    Download as Download,
)
from supervisor.errand_messages import (
    Downloaded as Downloaded,
)
from supervisor.errand_messages import (
    DownloadFailed as DownloadFailed,
)
from supervisor.errand_messages import (
    Fetched as Fetched,
)
from supervisor.errand_messages import (
    FolderChanged as FolderChanged,
)
from supervisor.errand_messages import (
    Found as Found,
)
from supervisor.errand_messages import (
    KeepReport as KeepReport,
)
from supervisor.errand_messages import (
    Known as Known,
)
from supervisor.errand_messages import (
    Planned as Planned,
)
from supervisor.errand_messages import (
    Remember as Remember,
)
from supervisor.errand_messages import (
    Scan as Scan,
)
from supervisor.errand_messages import (
    Scanned as Scanned,
)
from supervisor.errand_messages import (
    Sought as Sought,
)
from supervisor.errand_messages import (
    Stuck as Stuck,
)
from supervisor.proxy_messages import (
    Activity as Activity,
)
from supervisor.proxy_messages import (
    Answer as Answer,
)
from supervisor.proxy_messages import (
    AskFigures as AskFigures,
)
from supervisor.proxy_messages import (
    AskRoll as AskRoll,
)
from supervisor.proxy_messages import (
    Attach as Attach,
)
from supervisor.proxy_messages import (
    Blamed as Blamed,
)
from supervisor.proxy_messages import (
    Busy as Busy,
)
from supervisor.proxy_messages import (
    ConfigureProxy as ConfigureProxy,
)
from supervisor.proxy_messages import (
    Died as Died,
)
from supervisor.proxy_messages import (
    Drain as Drain,
)
from supervisor.proxy_messages import (
    Drained as Drained,
)
from supervisor.proxy_messages import (
    Figures as Figures,
)
from supervisor.proxy_messages import (
    Finding as Finding,
)
from supervisor.proxy_messages import (
    Inquired as Inquired,
)
from supervisor.proxy_messages import (
    Inquiry as Inquiry,
)
from supervisor.proxy_messages import (
    KeepAlive as KeepAlive,
)
from supervisor.proxy_messages import (
    KeyUse as KeyUse,
)
from supervisor.proxy_messages import (
    LinkBroken as LinkBroken,
)
from supervisor.proxy_messages import (
    Listed as Listed,
)
from supervisor.proxy_messages import (
    Listening as Listening,
)
from supervisor.proxy_messages import (
    Lost as Lost,
)
from supervisor.proxy_messages import (
    ModelChanged as ModelChanged,
)
from supervisor.proxy_messages import (
    ModelCommand as ModelCommand,
)
from supervisor.proxy_messages import (
    Process as Process,
)
from supervisor.proxy_messages import (
    Reconfigure as Reconfigure,
)
from supervisor.proxy_messages import (
    Reload as Reload,
)
from supervisor.proxy_messages import (
    Reloaded as Reloaded,
)
from supervisor.proxy_messages import (
    Reopen as Reopen,
)
from supervisor.proxy_messages import (
    Ring as Ring,
)
from supervisor.proxy_messages import (
    Roll as Roll,
)
from supervisor.proxy_messages import (
    ShutDown as ShutDown,
)
from supervisor.proxy_messages import (
    Shutdown as Shutdown,
)
from supervisor.proxy_messages import (
    Unlisted as Unlisted,
)
from supervisor.proxy_messages import (
    Unwant as Unwant,
)
from supervisor.proxy_messages import (
    Want as Want,
)
from supervisor.states import (
    Death as Death,
)
from supervisor.states import (
    Entry as Entry,
)
from supervisor.states import (
    Facts as Facts,
)
from supervisor.states import (
    Footprint as Footprint,
)
from supervisor.states import (
    Message as Message,
)
from supervisor.states import (
    ModelStatus as ModelStatus,
)
from supervisor.states import (
    Phase as Phase,
)
from supervisor.states import (
    State as State,
)
from supervisor.worker_messages import (
    ConfigureWorker as ConfigureWorker,
)
from supervisor.worker_messages import (
    LoadFailed as LoadFailed,
)
from supervisor.worker_messages import (
    Neighbours as Neighbours,
)
from supervisor.worker_messages import (
    Peer as Peer,
)
from supervisor.worker_messages import (
    Ping as Ping,
)
from supervisor.worker_messages import (
    Pong as Pong,
)
from supervisor.worker_messages import (
    Ready as Ready,
)
from supervisor.worker_messages import (
    Relog as Relog,
)
from supervisor.worker_messages import (
    Report as Report,
)
from supervisor.worker_messages import (
    SetScales as SetScales,
)
from supervisor.worker_messages import (
    Stop as Stop,
)
from supervisor.worker_messages import (
    Warm as Warm,
)

FromRoot = (
    Ping | Stop | Relog | ConfigureProxy | ModelChanged | Died | Attach | Drain | Reopen | Lost | Answer | Shutdown
    | ConfigureWorker | Warm | Peer | Neighbours | SetScales | Ring | KeyUse | Blamed | Figures | Roll | Inquired
    | Inquiry | Finding | Listed | Unlisted | Scan | Remember | KeepReport | Discard | Download | Reconfigure | Reloaded
)  # fmt: skip
ToRoot = (
    Listening | Want | Unwant | Activity | KeepAlive | Drained | Busy | LinkBroken | ModelCommand | ShutDown
    | Pong | Ready | LoadFailed | KeyUse | Blamed | Report | AskFigures | AskRoll | Inquiry | Finding
    | Reload | Scanned | Known | FolderChanged | Stuck | Discarded
    | Planned | Fetched | Downloaded | DownloadFailed
)  # fmt: skip
