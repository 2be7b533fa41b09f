// The board as a panel that floats before the trainer: one textured quad, and a floor where there is no passthrough.

import { HEIGHT, WIDTH } from "./board.js";

const WIDTH_M = 1.15, AHEAD_M = 1.25, BELOW_EYES_M = 0.12;
const UPLOAD_MS = 33;
const GRID_M = 4;

const VERTEX = `#version 300 es
uniform mat4 projection, view, model;
in vec3 position;
in vec2 place;
out vec2 at;
void main() { at = place; gl_Position = projection * view * model * vec4(position, 1.0); }`;
const FRAGMENT = `#version 300 es
precision mediump float;
uniform sampler2D board;
uniform vec4 plain;
in vec2 at;
out vec4 colour;
void main() { colour = plain.a > 0.0 ? plain : texture(board, at); }`;
const IDENTITY = new Float32Array([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);

export class Panel {
  constructor(board) {
    this.board = board;
    this.dirty = true;
    this.uploadedMs = 0;
  }

  async attach(session) {
    const canvas = document.createElement("canvas");
    const gl = canvas.getContext("webgl2", { xrCompatible: true, alpha: true, antialias: true });
    if (!gl) throw new Error("This browser has no WebGL 2.");
    await gl.makeXRCompatible();
    session.updateRenderState({ baseLayer: new XRWebGLLayer(session, gl) });
    this.gl = gl;
    this.seeThrough = session.environmentBlendMode && session.environmentBlendMode !== "opaque";
    this.model = null;
    this.dirty = true;
    this.program = program(gl);
    this.where = Object.fromEntries(["projection", "view", "model", "board", "plain"]
      .map((name) => [name, gl.getUniformLocation(this.program, name)]));
    this.quad = vertices(gl, this.program, quad());
    this.floor = vertices(gl, this.program, grid());
    this.texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
  }

  draw(frame, space, nowMs) {
    const gl = this.gl, layer = frame.session.renderState.baseLayer;
    const pose = frame.getViewerPose(space);
    if (!gl || !layer) return;
    gl.bindFramebuffer(gl.FRAMEBUFFER, layer.framebuffer);
    if (this.seeThrough) gl.clearColor(0, 0, 0, 0);
    else gl.clearColor(0.035, 0.05, 0.07, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    if (!pose) return;
    // Placed once, where the trainer looks first, and stays there.
    this.model ||= ahead(pose.transform);
    this.upload(nowMs);
    gl.useProgram(this.program);
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.BLEND);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.uniform1i(this.where.board, 0);
    for (const view of pose.views) {
      const { x, y, width, height } = layer.getViewport(view);
      gl.viewport(x, y, width, height);
      gl.uniformMatrix4fv(this.where.projection, false, view.projectionMatrix);
      gl.uniformMatrix4fv(this.where.view, false, view.transform.inverse.matrix);
      if (!this.seeThrough) {
        gl.uniformMatrix4fv(this.where.model, false, IDENTITY);
        gl.uniform4f(this.where.plain, 0.2, 0.28, 0.36, 1);
        gl.bindVertexArray(this.floor.array);
        gl.drawArrays(gl.LINES, 0, this.floor.count);
      }
      gl.uniformMatrix4fv(this.where.model, false, this.model);
      gl.uniform4f(this.where.plain, 0, 0, 0, 0);
      gl.bindVertexArray(this.quad.array);
      gl.drawArrays(gl.TRIANGLE_STRIP, 0, this.quad.count);
    }
    gl.bindVertexArray(null);
  }

  upload(nowMs) {
    if (!this.dirty || nowMs - this.uploadedMs < UPLOAD_MS) return;
    const gl = this.gl;
    this.dirty = false;
    this.uploadedMs = nowMs;
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    gl.pixelStorei(gl.UNPACK_FLIP_Y_WEBGL, true);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, this.board.canvas);
    gl.generateMipmap(gl.TEXTURE_2D);
  }
}

// Upright, facing the viewer, whose heading alone counts.
function ahead({ position, orientation: q }) {
  const yaw = Math.atan2(2 * (q.x * q.z + q.w * q.y), 1 - 2 * (q.x * q.x + q.y * q.y));
  const [s, c] = [Math.sin(yaw), Math.cos(yaw)];
  return new Float32Array([
    c, 0, -s, 0, 0, 1, 0, 0, s, 0, c, 0,
    position.x - AHEAD_M * s, position.y - BELOW_EYES_M, position.z - AHEAD_M * c, 1]);
}

function quad() {
  const x = WIDTH_M / 2, y = x * HEIGHT / WIDTH;
  return [-x, -y, 0, 0, 0, x, -y, 0, 1, 0, -x, y, 0, 0, 1, x, y, 0, 1, 1];
}

function grid() {
  const lines = [];
  for (let k = -GRID_M; k <= GRID_M; k += 0.5) {
    lines.push(k, 0, -GRID_M, 0, 0, k, 0, GRID_M, 0, 0, -GRID_M, 0, k, 0, 0, GRID_M, 0, k, 0, 0);
  }
  return lines;
}

function vertices(gl, into, numbers) {
  const array = gl.createVertexArray();
  gl.bindVertexArray(array);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(numbers), gl.STATIC_DRAW);
  [["position", 3, 0], ["place", 2, 12]].forEach(([name, size, offset]) => {
    const where = gl.getAttribLocation(into, name);
    gl.enableVertexAttribArray(where);
    gl.vertexAttribPointer(where, size, gl.FLOAT, false, 20, offset);
  });
  gl.bindVertexArray(null);
  return { array, count: numbers.length / 5 };
}

function program(gl) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made) || "no shader");
  return made;
}
