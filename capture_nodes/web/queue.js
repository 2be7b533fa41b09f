// How many frames may be on their way: many while they arrive in time, one after the other once they do not.
// A network that is slow queues them where no page can see it; what waits there is old when it arrives.

const PATIENCE_MS = 200;
const MOST = 24, FEWEST = 1, GROWTH = 0.5;

export class FrameQueue {
  constructor() {
    this.underWay = [];
    this.most = MOST;
  }

  hasRoom(nowMs) {
    if (!this.underWay.length) return true;
    if (nowMs - this.underWay[0].sentMs > PATIENCE_MS) this.most = FEWEST;
    return this.underWay.length < Math.floor(this.most);
  }

  sent(sequence, nowMs) {
    this.underWay.push({ sequence, sentMs: nowMs });
  }

  // The station has this frame, and those before it.
  arrived(sequence, nowMs) {
    while (this.underWay.length && this.underWay[0].sequence <= sequence) {
      const { sentMs } = this.underWay.shift();
      this.most = nowMs - sentMs > PATIENCE_MS ? FEWEST : Math.min(MOST, this.most + GROWTH);
    }
  }
}
