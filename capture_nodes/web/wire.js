// The bytes between this page and the station (docs/webxr.md), as capture_nodes/sources/webxr_wire.py has them.

export const VERSION = 1;
export const FRAME = 1, PICTURE = 2, PICTURE_SHOWN = 3, PING = 4, PONG = 5, FRAME_TAKEN = 6;

export const SINGLE_POINTS = ["head", "left_grip", "left_aim", "right_grip", "right_aim"];
export const SIDES = ["left", "right"];
export const VISIBILITIES = ["visible", "visible-blurred", "hidden"];

const FINGERS = ["thumb", "index-finger", "middle-finger", "ring-finger", "pinky-finger"];
const PHALANGES = ["metacarpal", "phalanx-proximal", "phalanx-intermediate", "phalanx-distal", "tip"];
// WebXR's names, in the order of the wire.
export const HAND_JOINTS = ["wrist"].concat(FINGERS.flatMap((finger) => PHALANGES
  .filter((joint) => !(finger === "thumb" && joint === "phalanx-intermediate"))
  .map((joint) => `${finger}-${joint}`)));
// WebXR's names of the body points the station knows, in the order of the wire.
export const BODY_JOINTS = ["chest", "hips"].concat(SIDES.flatMap((side) => [
  `${side}-arm-upper`, `${side}-arm-lower`, `${side}-hand-wrist`,
  `${side}-upper-leg`, `${side}-lower-leg`, `${side}-foot-ankle`]));

const HEADER_BYTES = 56, POSE_FLOATS = 7;
const EMULATED_SHIFT = 8, HAND_SHIFT = 16, BODY_BIT = 18;
export const SMALLEST_FRAME_BYTES = HEADER_BYTES;
export const LARGEST_FRAME_BYTES = HEADER_BYTES
  + 4 * POSE_FLOATS * (SINGLE_POINTS.length + 2 * HAND_JOINTS.length + BODY_JOINTS.length) + 4 * 3;

// What one XR frame held. Kept and filled anew every frame, so that nothing is allocated while the trainer moves.
export class FrameRecord {
  constructor() {
    this.sequence = 0;
    this.deviceMs = 0;
    this.visibility = "visible";
    this.reset = false;
    this.axes = new Float32Array(8);
    this.buttons = new Uint8Array(8);
    const places = (count) => ({
      poses: new Float32Array(count * POSE_FLOATS), valid: new Uint8Array(count), emulated: new Uint8Array(count),
    });
    this.single = places(SINGLE_POINTS.length);
    this.hands = { left: places(HAND_JOINTS.length), right: places(HAND_JOINTS.length) };
    this.body = places(BODY_JOINTS.length);
  }

  clear() {
    this.reset = false;
    this.axes.fill(0);
    this.buttons.fill(0);
    for (const places of [this.single, this.hands.left, this.hands.right, this.body]) {
      places.valid.fill(0);
      places.emulated.fill(0);
    }
  }
}

// Puts an XRPose into place k.
export function place(places, k, pose) {
  const { position: p, orientation: q } = pose.transform;
  places.poses.set([p.x, p.y, p.z, q.x, q.y, q.z, q.w], k * POSE_FLOATS);
  places.valid[k] = 1;
  places.emulated[k] = pose.emulatedPosition ? 1 : 0;
}

const mask = (flags) => flags.reduce((bits, flag, k) => bits | (flag ? 1 << k : 0), 0) >>> 0;

// Writes `record` into `buffer` (of LARGEST_FRAME_BYTES) and gives the part that is the message.
export function encodeFrame(record, buffer) {
  const view = new DataView(buffer);
  const hands = SIDES.map((side) => mask(record.hands[side].valid));
  const body = mask(record.body.valid);
  const single = mask(record.single.valid);
  const emulated = mask(record.single.emulated) & single;
  view.setUint8(0, FRAME);
  view.setUint8(1, VERSION);
  view.setUint8(2, Math.max(0, VISIBILITIES.indexOf(record.visibility)));
  view.setUint8(3, record.reset ? 1 : 0);
  view.setUint32(4, record.sequence, true);
  view.setFloat64(8, record.deviceMs, true);
  view.setUint16(16, mask(record.buttons), true);
  view.setUint16(18, 0, true);
  view.setUint32(20, single | emulated << EMULATED_SHIFT | (hands[0] ? 1 << HAND_SHIFT : 0)
    | (hands[1] ? 2 << HAND_SHIFT : 0) | (body ? 1 << BODY_BIT : 0), true);
  let offset = 24;
  const float = (value) => { view.setFloat32(offset, value, true); offset += 4; };
  const poses = (places) => {
    for (let k = 0; k < places.valid.length; k++) {
      if (!places.valid[k]) continue;
      for (let i = k * POSE_FLOATS; i < (k + 1) * POSE_FLOATS; i++) float(places.poses[i]);
    }
  };
  const masked = (bits, places) => {
    if (!bits) return;
    view.setUint32(offset, bits, true);
    offset += 4;
    poses(places);
  };
  record.axes.forEach(float);
  poses(record.single);
  SIDES.forEach((side, k) => masked(hands[k], record.hands[side]));
  masked(body, record.body);
  return new Uint8Array(buffer, 0, offset);
}

export function encodePong(number, pageMs) {
  const view = new DataView(new ArrayBuffer(16));
  view.setUint8(0, PONG);
  view.setUint8(1, VERSION);
  view.setUint32(4, number, true);
  view.setFloat64(8, pageMs, true);
  return view.buffer;
}

export function encodePictureShown(number) {
  const view = new DataView(new ArrayBuffer(8));
  view.setUint8(0, PICTURE_SHOWN);
  view.setUint8(1, VERSION);
  view.setUint32(4, number, true);
  return view.buffer;
}

// A binary message of the station: {kind, number} and, of a picture, {camera, capturedMs, jpeg}.
export function decodeMessage(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < 8 || view.getUint8(1) !== VERSION) throw new RangeError("no message of this version");
  const kind = view.getUint8(0);
  const number = view.getUint32(4, true);
  if (kind !== PICTURE) return { kind, number };
  const nameEnd = 16 + view.getUint8(2);
  return {
    kind,
    number,
    capturedMs: view.getFloat64(8, true),
    camera: new TextDecoder().decode(new Uint8Array(buffer, 16, nameEnd - 16)),
    jpeg: new Uint8Array(buffer, nameEnd),
  };
}
