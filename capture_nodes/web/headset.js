// The immersive session: asked for, its frames sent, its end told at once.

import { FrameRecord } from "./wire.js";
import { record } from "./tracking.js";

const OPTIONAL = ["hand-tracking", "body-tracking", "layers"];
// What a station expects of its trainer's motion (headset_rate_hz); many headsets start at 72.
const WANTED_HZ = 90;
// Clocks farther apart than this are not the same one.
const SAME_CLOCK_MS = 1000;

// The best mode this browser offers, or why there is none.
export async function offeredMode() {
  if (!navigator.xr) {
    return { mode: null, reason: window.isSecureContext
      ? "This browser has no WebXR. Open this page in the headset's own browser."
      : "WebXR needs a secure page: open it with https, or over the cable as http://localhost." };
  }
  for (const mode of ["immersive-ar", "immersive-vr"]) {
    if (await navigator.xr.isSessionSupported(mode).catch(() => false)) return { mode, reason: "" };
  }
  return { mode: null, reason: "This browser offers no immersive session. Is the headset on?" };
}

export class Headset extends EventTarget {
  constructor(link, panel, rumble) {
    super();
    this.link = link;
    this.panel = panel;
    this.rumble = rumble;
    this.session = null;
    this.record = new FrameRecord();
    this.sequence = 0;
    this.frames = 0;
    this.moved = false;
    // A page that is taken out of sight gets no frames any more: what it says now is its last word.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden && this.session) this.link.end("the page was hidden");
    });
    window.addEventListener("pagehide", () => this.session && this.link.end("the page was left"));
    document.addEventListener("freeze", () => this.session && this.link.end("the page was frozen"));
    link.addEventListener("state", () => {
      if (link.state === "connected" && this.session) this.tellMode();
    });
  }

  async start(mode) {
    const session = await navigator.xr.requestSession(mode, {
      requiredFeatures: ["local-floor"], optionalFeatures: OPTIONAL,
    });
    try {
      this.space = await session.requestReferenceSpace("local-floor");
      await this.panel.attach(session);
    } catch (error) {
      await session.end().catch(() => {});
      throw error;
    }
    this.session = session;
    this.mode = mode;
    const rates = [...(session.supportedFrameRates || [])];
    if (rates.includes(WANTED_HZ)) session.updateTargetFrameRate(WANTED_HZ).catch(() => {});
    this.space.addEventListener("reset", () => { this.moved = true; });
    session.addEventListener("end", () => {
      this.session = null;
      this.rumble.still();
      this.link.end("the session was left");
      this.dispatchEvent(new Event("change"));
    });
    session.addEventListener("visibilitychange", () => {
      if (session.visibilityState !== "visible") this.link.end(`the session is ${session.visibilityState}`);
      else this.tellMode();
      this.dispatchEvent(new Event("change"));
    });
    this.tellMode();
    session.requestAnimationFrame((time, frame) => this.onFrame(time, frame));
    this.dispatchEvent(new Event("change"));
  }

  tellMode() {
    this.link.tellMode(this.mode);
  }

  async stop() {
    if (this.session) await this.session.end();
  }

  onFrame(time, frame) {
    const session = frame.session;
    session.requestAnimationFrame((nextTime, nextFrame) => this.onFrame(nextTime, nextFrame));
    const nowMs = performance.now();
    record(frame, this.space, session, this.record);
    this.record.sequence = ++this.sequence;
    this.record.deviceMs = Math.abs(nowMs - time) < SAME_CLOCK_MS ? time : nowMs;
    this.record.reset = this.moved;
    if (this.link.sendFrame(this.record, nowMs)) this.moved = false;
    this.frames++;
    this.rumble.feel(session.inputSources, nowMs);
    this.panel.draw(frame, this.space, nowMs);
  }
}
