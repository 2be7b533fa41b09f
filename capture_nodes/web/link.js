// The line to the station: one socket that comes back by itself, and never more than one frame in its queue.

import { FrameQueue } from "./queue.js";
import * as wire from "./wire.js";

const AGAIN_MS = [250, 500, 1000, 2000];
const BUSY = 4001, REPLACED = 4002, BAD_HELLO = 4004;
const REASONS = {
  [BUSY]: "Another trainer is connected to this station.",
  [REPLACED]: "This page was opened again elsewhere.",
  [BAD_HELLO]: "The station has another version of this page: reload it.",
};

export class Link extends EventTarget {
  constructor() {
    super();
    this.pageId = crypto.randomUUID();
    this.state = "connecting";
    this.reason = "";
    this.clock = null;
    this.held = 0;
    this.mode = "no session";
    this.tries = 0;
    this.buffer = new ArrayBuffer(wire.LARGEST_FRAME_BYTES);
    this.queue = new FrameQueue();
    this.connect();
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/socket`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.become("connecting");
    socket.addEventListener("open", () => {
      socket.send(JSON.stringify({
        type: "hello", version: wire.VERSION, page: this.pageId, device: navigator.userAgent,
      }));
      this.queue = new FrameQueue();
      this.tellMode(this.mode);
    });
    socket.addEventListener("message", (event) => {
      if (socket === this.socket) this.take(event.data);
    });
    socket.addEventListener("close", (event) => {
      if (socket !== this.socket) return;
      this.clock = null;
      const reason = REASONS[event.code];
      if (event.code === REPLACED || event.code === BAD_HELLO) {
        this.become("refused", reason);
        return;
      }
      this.become(reason ? "refused" : "lost", reason || "The station does not answer.");
      const waitMs = AGAIN_MS[Math.min(this.tries++, AGAIN_MS.length - 1)];
      setTimeout(() => this.connect(), waitMs);
    });
  }

  become(state, reason = "") {
    this.state = state;
    this.reason = reason;
    this.dispatchEvent(new Event("state"));
  }

  get ready() {
    return this.state === "connected" && this.socket.readyState === WebSocket.OPEN;
  }

  take(data) {
    if (typeof data === "string") {
      const message = JSON.parse(data);
      if (message.type === "clock") {
        this.clock = message;
        return;
      }
      this.dispatchEvent(new MessageEvent(message.type, { data: message }));
      return;
    }
    const message = wire.decodeMessage(data);
    if (message.kind === wire.PING) {
      this.socket.send(wire.encodePong(message.number, performance.now()));
      if (this.state !== "connected") {
        this.tries = 0;
        this.become("connected");
      }
    } else if (message.kind === wire.FRAME_TAKEN) {
      this.queue.arrived(message.number, performance.now());
    } else if (message.kind === wire.PICTURE) {
      this.dispatchEvent(new MessageEvent("picture", { data: message }));
    }
  }

  // Station's steady clock in ms, once it is known.
  stationMs(pageMs) {
    return this.clock ? pageMs + this.clock.offset_ms : null;
  }

  // Sends the frame unless those before it are still on their way; says whether it was sent.
  sendFrame(record, nowMs) {
    if (!this.ready) return false;
    if (this.socket.bufferedAmount >= wire.SMALLEST_FRAME_BYTES || !this.queue.hasRoom(nowMs)) {
      this.held++;
      return false;
    }
    this.socket.send(wire.encodeFrame(record, this.buffer));
    this.queue.sent(record.sequence, nowMs);
    return true;
  }

  pictureShown(number) {
    if (this.ready) this.socket.send(wire.encodePictureShown(number));
  }

  tellMode(mode) {
    this.mode = mode;
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type: "session", mode }));
  }

  // The trainer went away: the deadman opens at once.
  end(reason) {
    this.mode = "no session";
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type: "end", reason }));
  }
}
