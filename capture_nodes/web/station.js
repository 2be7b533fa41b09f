// What the station tells: its state and its cameras' newest pictures.

const PICTURE = "image/jpeg";

export class Station extends EventTarget {
  constructor(link) {
    super();
    this.link = link;
    this.status = {};
    // Per camera: image, capturedMs (station's clock), and how old it was when it could be shown.
    this.cameras = new Map();
    link.addEventListener("status", (event) => {
      this.status = event.data;
      this.dispatchEvent(new Event("change"));
    });
    link.addEventListener("picture", (event) => this.show(event.data));
    link.addEventListener("state", () => {
      if (link.state !== "connected") this.cameras.clear();
      this.dispatchEvent(new Event("change"));
    });
  }

  async show(picture) {
    try {
      const image = await createImageBitmap(new Blob([picture.jpeg], { type: PICTURE }));
      const former = this.cameras.get(picture.camera);
      if (former) former.image.close();
      const shownMs = this.link.stationMs(performance.now());
      this.cameras.set(picture.camera, {
        image, latencyMs: shownMs === null ? null : Math.max(0, shownMs - picture.capturedMs),
      });
      this.dispatchEvent(new Event("change"));
    } catch {
      // A picture that cannot be decoded is left out; the next one comes anyway.
    } finally {
      this.link.pictureShown(picture.number);
    }
  }
}
