// Compiles a program of the harness, so that a test can run it in a process of its own.
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { projectRoot } from "../../server/paths.js";

/** A program that can be run with Node. */
export interface CompiledProgram {
  /** Its path. */
  path: string;
  /** Removes it. */
  remove(): Promise<void>;
}

/** Compiles a file of test/harness, and what it imports of this repository. */
export async function compileProgram(name: string): Promise<CompiledProgram> {
  // Within the repository, where its packages are found.
  const dist = path.join(projectRoot, "dist");
  await mkdir(dist, { recursive: true });
  const directory = await mkdtemp(path.join(dist, "program-"));
  const config = {
    extends: path.join(projectRoot, "tsconfig.json"),
    // Its types are checked with those of all tests.
    compilerOptions: { noEmit: false, noCheck: true, rootDir: projectRoot, outDir: "out" },
    files: [path.join(projectRoot, "test/harness", `${name}.ts`)],
    include: [],
  };
  await writeFile(path.join(directory, "tsconfig.json"), JSON.stringify(config));
  const tsc = path.join(projectRoot, "node_modules/typescript/bin/tsc");
  await promisify(execFile)(process.execPath, [tsc, "-p", directory]);
  return {
    path: path.join(directory, "out/test/harness", `${name}.js`),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}
