// What stops the robot's arms, felt in the hands: pulses that overlap for as long as the station says so.

const PULSE_MS = 120, EVERY_MS = 80;
// The line may be cut in the middle of it.
const LONGEST_MS = 600;

export class Rumble {
  constructor() {
    this.hands = { left: { intensity: 0, toldMs: 0, pulsedMs: 0 }, right: { intensity: 0, toldMs: 0, pulsedMs: 0 } };
  }

  tell(side, intensity) {
    const hand = this.hands[side];
    if (hand) Object.assign(hand, { intensity, toldMs: performance.now(), pulsedMs: 0 });
  }

  still() {
    this.hands.left.intensity = this.hands.right.intensity = 0;
  }

  feel(sources, nowMs) {
    for (const source of sources) {
      const hand = this.hands[source.handedness];
      if (!hand || !hand.intensity || nowMs - hand.toldMs > LONGEST_MS || nowMs - hand.pulsedMs < EVERY_MS) continue;
      hand.pulsedMs = nowMs;
      const pad = source.gamepad;
      const actuator = pad && pad.hapticActuators && pad.hapticActuators[0];
      if (actuator) {
        Promise.resolve(actuator.pulse(hand.intensity, PULSE_MS)).catch(() => {});
      } else if (pad && pad.vibrationActuator) {
        pad.vibrationActuator.playEffect("dual-rumble", {
          duration: PULSE_MS, strongMagnitude: hand.intensity, weakMagnitude: hand.intensity,
        }).catch(() => {});
      }
    }
  }
}
