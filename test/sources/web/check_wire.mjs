// Writes and reads the vectors of test_webxr_wire.py with the page's own wire.js.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const [file, vectorsFile] = process.argv.slice(2);
const source = readFileSync(file);
const wire = await import(`data:text/javascript;base64,${source.toString("base64")}`);
const vectors = JSON.parse(readFileSync(vectorsFile, "utf8"));
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const fill = (places, poses, emulated = []) => poses.forEach((pose, k) => {
  if (!pose) return;
  const [x, y, z, qx, qy, qz, qw] = pose;
  wire.place(places, k, {
    transform: { position: { x, y, z }, orientation: { x: qx, y: qy, z: qz, w: qw } },
    emulatedPosition: Boolean(emulated[k]),
  });
});

const record = new wire.FrameRecord();
const buffer = new ArrayBuffer(wire.LARGEST_FRAME_BYTES);
for (const { record: given, bytes } of vectors.frames) {
  record.clear();
  for (const name of ["sequence", "deviceMs", "visibility", "reset"]) record[name] = given[name];
  record.axes.set(given.axes);
  record.buttons.set(given.buttons);
  fill(record.single, given.single, given.emulated);
  fill(record.hands.left, given.left);
  fill(record.hands.right, given.right);
  fill(record.body, given.body);
  assert.equal(hex(wire.encodeFrame(record, buffer)), bytes);
}
for (const { number, ms, bytes } of vectors.pongs) assert.equal(hex(wire.encodePong(number, ms)), bytes);
const buffered = (bytes) => Uint8Array.from(Buffer.from(bytes, "hex")).buffer;
assert.deepEqual(wire.decodeMessage(buffered(vectors.pings[0])), { kind: wire.PING, number: 5 });
assert.deepEqual(wire.decodeMessage(buffered(vectors.pings[1])), { kind: wire.FRAME_TAKEN, number: 2 ** 32 - 1 });
for (const { camera, number, ms, jpeg, bytes } of vectors.pictures) {
  const read = wire.decodeMessage(buffered(bytes));
  assert.deepEqual([read.camera, read.number, read.capturedMs, hex(read.jpeg)], [camera, number, ms, jpeg]);
}
assert.throws(() => wire.decodeMessage(new ArrayBuffer(3)), RangeError);
assert.equal(wire.HAND_JOINTS.length, vectors.joints[0].length);
assert.equal(wire.BODY_JOINTS.length, vectors.joints[1].length);
console.log(JSON.stringify({
  frames: vectors.frames.length, shown: vectors.shown.map(({ number }) => hex(wire.encodePictureShown(number))),
}));
