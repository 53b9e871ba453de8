// The suite knows the server by its address alone: no test reaches into its code.
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";

const here = import.meta.dirname;
const root = path.resolve(here, "../..");

const STATIC = /^(?:import|export)\b(?!\s+type\b)[^;]*?from "(\.[^"]+)"/gm;
const SIDE_EFFECT = /^import "(\.[^"]+)"/gm;
const DYNAMIC = /\bimport\("(\.[^"]+)"\)/g;

/** All files of the repository that a file imports, itself or by way of others. */
async function reach(file: string, reached: Set<string>): Promise<void> {
  if (reached.has(file)) return;
  reached.add(file);
  const text = await readFile(file, "utf8");
  for (const pattern of [STATIC, SIDE_EFFECT, DYNAMIC]) {
    for (const [, imported] of text.matchAll(pattern)) {
      // The one door, which an address in the environment leaves shut.
      if (file === path.join(here, "target.ts") && imported === "../harness/server.js") continue;
      await reach(path.resolve(path.dirname(file), imported!.replace(/\.js$/, ".ts")), reached);
    }
  }
}

test("no test imports the server, the client package or the command", async () => {
  const reached = new Set<string>();
  for (const name of await readdir(here)) {
    if (name.endsWith(".ts")) await reach(path.join(here, name), reached);
  }
  const places = [...reached].map((file) => path.relative(root, file));
  // What every test stands on is among them, so the search finds imports.
  expect(places).toContain(path.join("gen", "agentstore", "v1", "messages.ts"));
  const allowed = /^(gen\/|test\/e2e\/|test\/harness\/(wire|raw-grpc)\.ts$)/;
  expect(places.filter((place) => !allowed.test(place.replaceAll("\\", "/")))).toEqual([]);
});
