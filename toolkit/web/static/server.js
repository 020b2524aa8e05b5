// The server: what it offers, uploads, and the socket by which jobs are drawn. A lost connection comes back to its jobs.

const KEPT = "glide-jobs";

/** An upload: its id, size, notes and, of a PNG of the toolkit, the form that drew it. */
export async function upload(blob, name) {
  const answer = await fetch(`/api/pictures?name=${encodeURIComponent(name)}`, { method: "POST", body: blob });
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error?.message ?? `the server answered ${answer.status}`);
  return found;
}

export async function about() {
  const answer = await fetch("/api/about");
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return answer.json();
}

/** Jobs over one socket. onstatus: called with a word about the connection. */
export class Server {
  constructor(onstatus) {
    this.onstatus = onstatus;
    this.jobs = new Map(); // by tag
    this.number = 0;
    this.wait = 250;
    this.connect();
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/api/socket`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      this.wait = 250;
      this.onstatus("connected");
      for (const job of this.jobs.values()) this.ask(job);
    };
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.heard(JSON.parse(data)) : this.seen(data));
    socket.onclose = () => {
      this.onstatus("connecting again");
      setTimeout(() => this.connect(), this.wait);
      this.wait = Math.min(this.wait * 2, 4000);
    };
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  /** Draw a request. on: functions state, frame, accepted, refused. Returns the job, which has stop and cancel. */
  draw(request, on) {
    return this.add({ request, on });
  }

  /** Come back to a job of before. */
  watch(id, on) {
    return this.add({ id, on });
  }

  add(job) {
    job.tag = `${Date.now()}-${(this.number += 1)}`;
    job.stop = () => job.id && this.send({ type: "stop", job: job.id });
    job.cancel = () => {
      if (job.id) this.send({ type: "cancel", job: job.id });
      else this.over(job, { state: "cancelled", pictures: [] });
    };
    this.jobs.set(job.tag, job);
    this.ask(job);
    return job;
  }

  ask(job) {
    if (job.id) this.send({ type: "watch", tag: job.tag, job: job.id });
    else this.send({ type: "draw", tag: job.tag, request: job.request });
  }

  heard(message) {
    if (message.type === "state") {
      const job = [...this.jobs.values()].find((one) => one.id === message.job);
      if (!job) return;
      if (["done", "stopped", "cancelled", "failed"].includes(message.state)) this.over(job, message);
      else job.on.state?.(message);
      return;
    }
    const job = this.jobs.get(message.tag);
    if (!job) return;
    if (message.type === "accepted") {
      job.id = message.job;
      this.keep();
      job.on.accepted?.(message);
    } else if (message.type === "refused") {
      this.over(job, { state: "failed", message: message.message, pictures: [] });
    }
  }

  over(job, state) {
    this.jobs.delete(job.tag);
    this.keep();
    job.on.state?.(state);
  }

  /** A preview: the pictures of a job side by side in one file. */
  async seen(data) {
    const length = new DataView(data).getUint32(0);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    const bitmap = await createImageBitmap(new Blob([new Uint8Array(data, 4 + length)]));
    const job = [...this.jobs.values()].find((one) => one.id === head.job);
    job?.on.frame?.({ ...head, bitmap });
  }

  /** Ids of jobs that are not over, for when the page is loaded again. */
  keep() {
    const ids = [...this.jobs.values()].filter((job) => job.id).map((job) => job.id);
    sessionStorage.setItem(KEPT, JSON.stringify(ids));
  }

  static kept() {
    try {
      return JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
    } catch {
      return [];
    }
  }
}
