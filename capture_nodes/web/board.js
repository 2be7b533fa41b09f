// Everything the trainer has to see, drawn on one canvas: it is the panel in the headset and on the page.

export const WIDTH = 1280, HEIGHT = 760;

const FONT = "'Inter', 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', sans-serif";
const INK = "#eef3f8", DIM = "#9fb0c0", FAINT = "#31404f", CARD = "#1b2631", BACK = "rgba(13, 19, 26, 0.94)";
const GOOD = "#3ddc97", WAIT = "#5aa9ff", WARN = "#ffc457", BAD = "#ff6b6b", IDLE = "#8596a6";

const STATES = {
  idle: [IDLE, "idle"], engaging: [WAIT, "engaging"], tracking: [GOOD, "following you"],
  holding: [WARN, "holding"], emergency_stop: [BAD, "EMERGENCY STOP"],
};
const CLUTCHES = {
  released: [IDLE, "released"], approaching: [WAIT, "approaching"], following: [GOOD, "following"],
  lost: [WARN, "hand not seen"],
};
const EPISODES = {
  idle: [IDLE, "no episode"], recording: [BAD, "recording"], finishing: [WAIT, "being checked"],
};

// What the trainer is asked to hold, drawn: ends of the arms from the shoulders, in lengths of an arm.
const POSES = {
  stand: [0.25, 0.97], arms_down: [0.06, 1], arms_out: [1, 0], forward: null, pinch: [0.45, 0.1],
};

// A camera without a new picture for this long has stopped: what is seen of it is not how it is now.
const STOPPED_MS = 700;

const words = (state) => String(state || "").replaceAll("_", " ");
const shown = (table, state, none) => table[state] || [IDLE, words(state) || none];

export class Board {
  constructor(canvas) {
    canvas.width = WIDTH;
    canvas.height = HEIGHT;
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  draw(station, line) {
    const c = this.context, status = station.status;
    c.clearRect(0, 0, WIDTH, HEIGHT);
    this.box(0, 0, WIDTH, HEIGHT, 36, BACK);
    this.header(status, line);
    if (status.calibration) {
      this.calibration(status.calibration);
      this.notice(station.notice);
      this.footer(line, status.calibration.outcome ? "" : "hold each pose still until the ring is full");
      return;
    }
    this.cameras(station.cameras);
    let y = 112;
    y = this.arms(status.retargeting || {}, y);
    y = this.task(status, y);
    this.episode(status.episode || {}, y, status.menu);
    this.notice(station.notice);
    this.footer(line, "grip or pinch: move  ·  B, Y or little finger: start and end episode");
  }

  // What a sign of the trainer's led to, for a moment.
  notice(notice) {
    if (!notice) return;
    const c = this.context;
    c.font = `650 30px ${FONT}`;
    const width = Math.min(WIDTH - 160, c.measureText(notice.text).width + 110);
    const [x, y] = [(WIDTH - width) / 2, 596];
    this.box(x, y, width, 76, 38, notice.good ? "#12402f" : "#4a3a14");
    this.dot(x + 44, y + 38, notice.good ? GOOD : WARN, 12);
    this.text(notice.text, x + 74, y + 49, 30, INK, 650, "left", width - 100);
  }

  calibration(said) {
    this.box(40, 112, 480, 570, 22, CARD);
    this.box(544, 112, WIDTH - 584, 570, 22, CARD);
    const x = 592, width = WIDTH - 584 - 96;
    if (said.outcome) {
      const good = said.outcome === "kept";
      const c = this.context;
      c.strokeStyle = good ? GOOD : BAD;
      c.lineWidth = 26;
      c.lineCap = c.lineJoin = "round";
      c.beginPath();
      if (good) [[180, 400], [250, 470], [390, 320]].forEach(([px, py], k) => (k ? c.lineTo(px, py) : c.moveTo(px, py)));
      else [[200, 320, 360, 480], [360, 320, 200, 480]].forEach(([ax, ay, bx, by]) => { c.moveTo(ax, ay); c.lineTo(bx, by); });
      c.stroke();
      this.text(good ? "Calibrated" : "Not calibrated", x, 200, 46, good ? GOOD : BAD, 700);
      let y = 262;
      for (const line of said.lines || []) y = this.lines(line, x, y, 26, INK, width, 4) + 10;
      if (!good) this.lines("Run it again: nothing was kept.", x, Math.min(y + 16, 650), 24, DIM, width, 2);
      return;
    }
    this.figure(said.name, 280, 400, said.held > 0 ? GOOD : INK);
    this.text(`STEP ${said.step} OF ${said.of}`, x, 172, 22, DIM, 700);
    let y = this.lines(said.instruction, x, 232, 42, INK, width, 4);
    this.ring(said, x + 78, 540);
    const text = said.hint || (said.held > 0 ? `hold still: ${Number(said.left_s).toFixed(1)} s` : "hold this pose");
    this.lines(text, x + 190, 532, 28, said.hint ? WARN : said.held > 0 ? GOOD : DIM, width - 190, 3);
  }

  ring({ held }, x, y) {
    const c = this.context;
    c.lineWidth = 18;
    c.lineCap = "round";
    for (const [share, colour] of [[1, FAINT], [Math.min(1, held || 0), GOOD]]) {
      if (!share) continue;
      c.strokeStyle = colour;
      c.beginPath();
      c.arc(x, y, 64, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * share);
      c.stroke();
    }
  }

  // A person of sticks; from the side where the arms point ahead.
  figure(name, x, y, colour) {
    const c = this.context, arm = 150;
    c.strokeStyle = colour;
    c.lineWidth = 16;
    c.lineCap = c.lineJoin = "round";
    const line = (...points) => {
      c.beginPath();
      points.forEach(([px, py], k) => (k ? c.lineTo(x + px, y + py) : c.moveTo(x + px, y + py)));
      c.stroke();
    };
    c.beginPath();
    c.arc(x, y - 190, 36, 0, 2 * Math.PI);
    c.stroke();
    const ends = POSES[name];
    line([0, -150], [0, 40]);
    if (ends) {
      for (const side of [-1, 1]) {
        line([0, -122], [44 * side, -122], [side * (44 + arm * ends[0]), -122 + arm * ends[1]]);
        line([0, 40], [42 * side, 210]);
        if (name === "pinch") {
          c.beginPath();
          c.arc(x + side * (58 + arm * ends[0]), y - 138 + arm * ends[1], 16, 0, 2 * Math.PI);
          c.stroke();
        }
      }
    } else {
      line([0, -122], [arm, -122]);
      line([0, 40], [8, 210], [40, 210]);
    }
  }

  box(x, y, w, h, r, fill) {
    const c = this.context;
    c.beginPath();
    c.roundRect(x, y, w, h, r);
    c.fillStyle = fill;
    c.fill();
  }

  text(string, x, y, size, colour = INK, weight = 500, align = "left", width = 0) {
    const c = this.context;
    c.font = `${weight} ${size}px ${FONT}`;
    c.fillStyle = colour;
    c.textAlign = align;
    c.textBaseline = "alphabetic";
    let line = String(string);
    if (width) {
      while (line.length > 1 && c.measureText(line).width > width) line = `${line.slice(0, -2).trimEnd()}…`;
    }
    c.fillText(line, x, y);
    return c.measureText(line).width;
  }

  // At most `most` lines of whole words.
  lines(string, x, y, size, colour, width, most) {
    const c = this.context;
    c.font = `500 ${size}px ${FONT}`;
    const rows = [""];
    for (const word of String(string).split(/\s+/)) {
      const longer = rows.at(-1) ? `${rows.at(-1)} ${word}` : word;
      if (c.measureText(longer).width <= width || !rows.at(-1)) rows[rows.length - 1] = longer;
      else rows.push(word);
    }
    if (rows.length > most) rows.splice(most - 1, rows.length, rows.slice(most - 1).join(" "));
    rows.forEach((row, k) => this.text(row, x, y + k * size * 1.35, size, colour, 500, "left", width));
    return y + rows.length * size * 1.35;
  }

  dot(x, y, colour, radius = 9) {
    const c = this.context;
    c.beginPath();
    c.arc(x, y, radius, 0, 2 * Math.PI);
    c.fillStyle = colour;
    c.fill();
  }

  header(status, line) {
    const robot = status.calibration ? "Calibration" : status.robot || "Teleoperation";
    const width = this.text(robot[0].toUpperCase() + robot.slice(1), 40, 70, 40, INK, 700, "left", 420);
    const { state, reason } = status.retargeting || {};
    const connected = line.state === "connected";
    // What is measured there is the trainer: no robot is anywhere near.
    if (connected && status.calibration) return;
    const [colour, word] = connected ? shown(STATES, state, "waiting for the robot") : [BAD, line.state === "connecting" ? "connecting" : "no line"];
    const c = this.context;
    c.font = `650 24px ${FONT}`;
    const pill = c.measureText(word).width + 66;
    this.box(64 + width, 36, pill, 46, 23, CARD);
    this.dot(90 + width, 59, colour, 8);
    this.text(word, 110 + width, 68, 24, colour, 650);
    const why = connected ? (state === "tracking" ? "" : reason) : line.reason;
    if (why) this.text(why, 84 + width + pill, 68, 22, DIM, 500, "left", WIDTH - 124 - width - pill);
  }

  cameras(cameras) {
    const x = 40, y = 112, w = 760, h = 570;
    this.box(x, y, w, h, 22, CARD);
    const names = [...cameras.keys()].sort();
    if (!names.length) {
      this.text("no camera picture", x + w / 2, y + h / 2, 26, DIM, 500, "center");
      return;
    }
    // The first one large, the others beneath it.
    const strip = names.length > 1 ? 176 : 0;
    this.camera(names[0], cameras.get(names[0]), x, y, w, h - strip);
    const others = names.slice(1, 4);
    others.forEach((name, k) => {
      const part = w / others.length;
      this.camera(name, cameras.get(name), x + k * part, y + h - strip + 8, part - (k < others.length - 1 ? 8 : 0), strip - 8);
    });
  }

  camera(name, { image, latencyMs, shownMs }, x, y, w, h) {
    const c = this.context, sinceMs = performance.now() - shownMs, stopped = sinceMs > STOPPED_MS;
    c.save();
    c.beginPath();
    c.roundRect(x, y, w, h, 22);
    c.clip();
    c.fillStyle = "#05080b";
    c.fillRect(x, y, w, h);
    const scale = Math.min(w / image.width, h / image.height);
    const [iw, ih] = [image.width * scale, image.height * scale];
    c.globalAlpha = stopped ? 0.35 : 1;
    c.drawImage(image, x + (w - iw) / 2, y + (h - ih) / 2, iw, ih);
    c.restore();
    const told = stopped ? `stopped ${Math.round(sinceMs / 1000)} s ago` : latencyMs === null ? "" : `${Math.round(latencyMs)} ms`;
    const label = told ? `${words(name)}  ·  ${told}` : words(name);
    c.font = `600 20px ${FONT}`;
    this.box(x + 14, y + 14, c.measureText(label).width + 28, 36, 18, "rgba(5, 8, 11, 0.72)");
    this.text(label, x + 28, y + 39, 20, stopped || latencyMs > 250 ? WARN : INK, 600);
  }

  title(string, y) {
    this.text(string.toUpperCase(), 836, y + 26, 18, DIM, 700);
    return y + 44;
  }

  arms(retargeting, y) {
    y = this.title("Arms", y);
    const arms = Object.entries(retargeting.arms || {});
    if (!arms.length) {
      this.text("no arm is known yet", 836, y + 30, 24, DIM);
      return y + 60;
    }
    for (const [side, arm] of arms) {
      const [colour, word] = shown(CLUTCHES, arm.state, "not known yet");
      this.box(836, y, 404, 54, 16, CARD);
      this.dot(866, y + 27, colour);
      this.text(side, 892, y + 36, 25, INK, 600);
      this.text(word, 1220, y + 36, 23, colour, 600, "right");
      y += 62;
      if (arm.reason) y = this.lines(words(arm.reason), 852, y + 18, 19, DIM, 388, 2) + 4;
    }
    return y + 8;
  }

  task(status, y) {
    const task = status.task || {};
    if (!task.skill && !task.instruction) return y;
    y = this.title("Task", y);
    if (task.skill) {
      this.text(words(task.skill), 836, y + 26, 27, INK, 650, "left", 404);
      y += 42;
    }
    if (task.instruction) y = this.lines(task.instruction, 836, y + 18, 22, DIM, 404, 3);
    return y + 10;
  }

  episode(episode, y, menu) {
    y = this.title(episode.of ? `Episode ${episode.number} of ${episode.of}` : "Episode", y);
    const [colour, word] = shown(EPISODES, episode.state, "no recorder yet");
    this.box(836, y, 404, 58, 16, episode.state === "recording" ? "#3a1f26" : CARD);
    this.dot(866, y + 29, colour, episode.state === "recording" ? 11 : 9);
    this.text(word, 892, y + 38, 25, INK, 600);
    if (episode.state === "recording" && episode.duration_s !== undefined) {
      this.text(`${Number(episode.duration_s).toFixed(0)} s`, 1220, y + 38, 25, INK, 600, "right");
    } else if (menu === "start") {
      this.text("menu starts one", 1220, y + 38, 21, DIM, 500, "right");
    }
    y += 68;
    if (episode.verdict && episode.state !== "recording") {
      const good = episode.verdict === "accepted";
      this.text(good ? "✓ last one accepted" : `✗ last one ${episode.verdict}`, 836, y + 26, 23, good ? GOOD : WARN, 650, "left", 404);
      y += 36;
      if (episode.reasons && episode.reasons.length) this.lines(words(episode.reasons.join("; ")), 836, y + 18, 20, DIM, 404, 4);
    } else if (episode.problem) {
      this.lines(words(episode.problem), 836, y + 22, 20, WARN, 404, 4);
    }
  }

  footer(line, help) {
    const parts = [];
    if (line.rateHz) parts.push(`${line.rateHz.toFixed(0)} frames/s`);
    if (line.clock) parts.push(`line ${line.clock.round_trip_ms.toFixed(1)} ms`, `clock ±${line.clock.uncertainty_ms.toFixed(1)} ms`);
    if (line.held) parts.push(`${line.held} held back`);
    const width = this.text(parts.join("  ·  "), 40, 732, 19, DIM, 500, "left", 620);
    this.text(help, 1240, 732, 19, DIM, 500, "right", 1160 - width);
    this.context.fillStyle = FAINT;
    this.context.fillRect(40, 698, WIDTH - 80, 1.5);
  }
}
