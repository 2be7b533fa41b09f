// What one XRFrame says of the trainer, put into a FrameRecord.

import { BODY_JOINTS, HAND_JOINTS, SIDES, place } from "./wire.js";

const clamp = (value, low) => Math.min(1, Math.max(low, Number.isFinite(value) ? value : 0));

export function record(frame, space, session, into) {
  into.clear();
  into.visibility = session.visibilityState;
  const viewer = frame.getViewerPose(space);
  if (viewer) place(into.single, 0, viewer);
  for (const source of session.inputSources) {
    const side = SIDES.indexOf(source.handedness);
    if (side < 0) continue;
    if (source.hand) {
      hand(frame, space, source.hand, into.hands[SIDES[side]]);
    } else {
      controller(frame, space, source, side, into);
    }
  }
  if (frame.body) body(frame, space, into.body);
}

function controller(frame, space, source, side, into) {
  const grip = source.gripSpace && frame.getPose(source.gripSpace, space);
  const aim = frame.getPose(source.targetRaySpace, space);
  if (grip) place(into.single, 1 + 2 * side, grip);
  if (aim) place(into.single, 2 + 2 * side, aim);
  const pad = source.gamepad;
  if (!pad) return;
  const value = (k) => (pad.buttons[k] ? pad.buttons[k].value : 0);
  const pressed = (k) => (pad.buttons[k] && pad.buttons[k].pressed ? 1 : 0);
  into.axes[side] = clamp(value(0), 0);
  into.axes[2 + side] = clamp(value(1), 0);
  // The stick, or a touch pad where there is none; its y points at the trainer.
  const stick = pad.axes.length >= 4 ? 2 : 0;
  into.axes[4 + 2 * side] = clamp(pad.axes[stick], -1);
  into.axes[5 + 2 * side] = clamp(-(pad.axes[stick + 1] || 0), -1);
  // primary, secondary, stick, menu of the mapping "xr-standard"
  [4, 5, 3, 6].forEach((k, row) => { into.buttons[2 * row + side] = pressed(k); });
}

function hand(frame, space, joints, into) {
  HAND_JOINTS.forEach((name, k) => {
    const joint = joints.get(name);
    const pose = joint && frame.getJointPose(joint, space);
    if (pose) place(into, k, pose);
  });
}

function body(frame, space, into) {
  BODY_JOINTS.forEach((name, k) => {
    const joint = frame.body.get(name);
    const pose = joint && frame.getPose(joint, space);
    if (pose) place(into, k, pose);
  });
}
