// The microphone → a WAV file. Loaded when it is first used.

const RATE = 16_000 // what models hear

export interface Recording {
  /** Ends it. */
  finish(): Promise<File>
}

/** Begins to listen. Throws where the browser or the reader refuses. */
export async function record(): Promise<Recording> {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true })
  const recorder = new MediaRecorder(stream)
  const pieces: Blob[] = []
  recorder.ondataavailable = (event) => pieces.push(event.data)
  recorder.start()
  return {
    async finish() {
      const stopped = new Promise((done) => (recorder.onstop = done))
      recorder.stop()
      await stopped
      for (const track of stream.getTracks()) track.stop()
      const context = new OfflineAudioContext(1, 1, RATE)
      const sound = await context.decodeAudioData(await new Blob(pieces).arrayBuffer())
      const name = `recording ${new Date().toLocaleTimeString()}.wav`
      return new File([wav(sound.getChannelData(0), RATE)], name, { type: 'audio/wav' })
    },
  }
}

/** 16-bit PCM with the header of a WAV file. */
export function wav(samples: Float32Array, rate: number): ArrayBuffer {
  const view = new DataView(new ArrayBuffer(44 + samples.length * 2))
  const word = (at: number, letters: string): void => [...letters].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)))
  word(0, 'RIFF')
  view.setUint32(4, 36 + samples.length * 2, true)
  word(8, 'WAVEfmt ')
  view.setUint32(16, 16, true)
  view.setUint16(20, 1, true) // PCM
  view.setUint16(22, 1, true) // one channel
  view.setUint32(24, rate, true)
  view.setUint32(28, rate * 2, true)
  view.setUint16(32, 2, true)
  view.setUint16(34, 16, true)
  word(36, 'data')
  view.setUint32(40, samples.length * 2, true)
  samples.forEach((sample, index) => view.setInt16(44 + index * 2, Math.round(Math.max(-1, Math.min(1, sample)) * 32767), true))
  return view.buffer
}
