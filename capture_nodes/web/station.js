// What the station tells: its state and its cameras' newest pictures.

const PICTURE = "image/jpeg";
const NOTICE_MS = 4000;

export class Station extends EventTarget {
  constructor(link) {
    super();
    this.link = link;
    this.status = {};
    // Per camera: image, when it could be shown (page's clock), and how old it was then.
    this.cameras = new Map();
    // What is shown for a moment: text, good. One that was there before this page came is old.
    this.notice = null;
    this.noticed = null;
    link.addEventListener("status", (event) => {
      this.status = event.data;
      this.look(event.data.notice);
      this.dispatchEvent(new Event("change"));
    });
    link.addEventListener("picture", (event) => this.show(event.data));
    link.addEventListener("state", () => {
      if (link.state !== "connected") {
        this.cameras.clear();
        this.noticed = null;
      }
      this.dispatchEvent(new Event("change"));
    });
  }

  look(notice) {
    const number = notice ? notice.number : 0;
    const isNew = notice && this.noticed !== null && number !== this.noticed;
    this.noticed = number;
    if (!isNew) return;
    this.notice = notice;
    setTimeout(() => {
      if (this.notice !== notice) return;
      this.notice = null;
      this.dispatchEvent(new Event("change"));
    }, NOTICE_MS);
  }

  async show(picture) {
    try {
      const image = await createImageBitmap(new Blob([picture.jpeg], { type: PICTURE }));
      const former = this.cameras.get(picture.camera);
      if (former) former.image.close();
      const shownMs = performance.now(), stationMs = this.link.stationMs(shownMs);
      this.cameras.set(picture.camera, {
        image, shownMs, latencyMs: stationMs === null ? null : Math.max(0, stationMs - picture.capturedMs),
      });
      this.dispatchEvent(new Event("change"));
    } catch {
      // A picture that cannot be decoded is left out; the next one comes anyway.
    } finally {
      this.link.pictureShown(picture.number);
    }
  }
}
