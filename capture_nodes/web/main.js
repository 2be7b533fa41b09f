// The page: what is missing is said, and one button puts the headset to work.

import { Board } from "./board.js";
import { Headset, offeredMode } from "./headset.js";
import { Link } from "./link.js";
import { Panel } from "./panel.js";
import { Rumble } from "./rumble.js";
import { Guide } from "./speech.js";
import { Station } from "./station.js";

const $ = (id) => document.getElementById(id);
const MODES = { "immersive-ar": "with your surroundings in view", "immersive-vr": "in a plain room" };

const link = new Link();
const station = new Station(link);
const board = new Board($("board"));
const panel = new Panel(board);
const rumble = new Rumble();
new Guide(station);
const headset = new Headset(link, panel, rumble);
let offer = { mode: null, reason: "Looking for a headset …" };
let failure = "";
let counted = 0, rateHz = 0;

function redraw() {
  const line = { state: link.state, reason: link.reason, clock: link.clock, held: link.held, rateHz };
  board.draw(station, line);
  panel.dirty = true;
}

let pending = false;
function change() {
  if (pending) return;
  pending = true;
  // Not requestAnimationFrame: the page's own stands still while the headset shows the session.
  setTimeout(() => {
    pending = false;
    redraw();
    tell();
  }, 15);
}

function tell() {
  const connected = link.state === "connected";
  $("line").textContent = connected ? "Connected to the station." : link.reason || "Connecting to the station …";
  $("line").className = connected ? "good" : link.state === "connecting" ? "wait" : "bad";
  const running = headset.session !== null;
  $("device").textContent = failure || (running
    ? `In session, ${MODES[headset.mode]}.`
    : offer.mode ? `Headset found: the session is ${MODES[offer.mode]}.` : offer.reason);
  $("device").className = failure || !(offer.mode || running) ? "bad" : "good";
  $("start").disabled = !running && !(offer.mode && connected);
  $("start").textContent = running ? "Leave the session" : "Start";
}

$("start").addEventListener("click", async () => {
  failure = "";
  try {
    if (headset.session) await headset.stop();
    else await headset.start(offer.mode);
  } catch (error) {
    failure = `The session did not start: ${error.message}`;
  }
  change();
});

async function look() {
  offer = await offeredMode();
  change();
}

for (const source of [link, station, headset]) {
  for (const name of ["state", "change"]) source.addEventListener(name, change);
}
link.addEventListener("rumble", ({ data }) => rumble.tell(data.side, data.intensity));
if (navigator.xr) navigator.xr.addEventListener("devicechange", look);
setInterval(() => {
  rateHz = headset.frames - counted;
  counted = headset.frames;
  change();
}, 1000);
look();
