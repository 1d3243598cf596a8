// Inspect images by Node 18 or newer, without any package:
//   node inspect.mjs http://127.0.0.1:7860 chip.png ...
// With an API key: CHIPDEMO_KEY=chip_... node inspect.mjs ...
import { readFile } from "node:fs/promises";

const key = process.env.CHIPDEMO_KEY;
const headers = key ? { Authorization: `Bearer ${key}` } : {};

// The inspection of the bytes of an image file. Waits where the app says that it is busy.
async function inspect(address, content) {
  for (;;) {
    const answer = await fetch(`${address}/v1/inspect`, { method: "POST", headers, body: content });
    const found = await answer.json();
    if (answer.ok) return found;
    if (answer.status !== 503) throw new Error(`${found.title}: ${found.detail ?? ""}`); // see RFC 9457
    await new Promise((done) => setTimeout(done, 1000 * Number(answer.headers.get("Retry-After"))));
  }
}

const [address, ...paths] = process.argv.slice(2);
for (const path of paths) {
  const found = await inspect(address, await readFile(path));
  console.log([path, found.outcome, found.abnormal_probability].join("\t"));
}
