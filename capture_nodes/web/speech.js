// What the trainer is led through, spoken: who stretches their arms does not read. Silent where a browser has no voice.

export function say(text) {
  const voice = window.speechSynthesis, Utterance = window.SpeechSynthesisUtterance;
  if (!voice || !Utterance) return;
  try {
    // What is said now is what counts.
    voice.cancel();
    const utterance = new Utterance(text);
    utterance.lang = "en";
    voice.speak(utterance);
  } catch {
    // A voice that fails leaves the panel, which says the same.
  }
}

// Of a calibration: every step once, and what came of it.
export class Guide {
  constructor(station) {
    this.told = "";
    station.addEventListener("change", () => this.look(station.status.calibration));
  }

  look(said) {
    if (!said) return;
    const text = said.outcome
      ? [said.outcome === "kept" ? "Calibrated. Thank you." : "Not calibrated.", ...(said.outcome === "kept" ? [] : said.lines || [])].join(" ")
      : said.instruction;
    if (text === this.told) return;
    this.told = text;
    say(text);
  }
}
