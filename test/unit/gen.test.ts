// The repository's own checks fail on what they are there for: each is run in a copy of the tree
// in which one thing has been spoilt.
import { spawnSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const root = path.resolve(import.meta.dirname, "../..");
const COPIED = [
  ".oxlintrc.json",
  "biome.json",
  "buf.gen.yaml",
  "buf.yaml",
  "docs",
  "gen",
  "package.json",
  "proto",
  "scripts",
  "third_party",
];
const MESSAGES = "proto/agentstore/v1/messages.proto";
const FORGETFUL_SWITCH = `export function a(b: "x" | "y"): number {
  switch (b) {
    case "x":
      return 1;
  }
  return 0;
}
`;

let copy: string;

beforeEach(() => {
  copy = mkdtempSync(path.join(tmpdir(), "agentstore-checks-"));
  for (const name of COPIED) {
    cpSync(path.join(root, name), path.join(copy, name), { recursive: true });
  }
  const extended = JSON.stringify(path.join(root, "tsconfig.json"));
  write("tsconfig.json", `{\n  "extends": ${extended},\n  "include": ["server"]\n}\n`);
  symlinkSync(path.join(root, "node_modules"), path.join(copy, "node_modules"));
});

afterEach(() => rmSync(copy, { recursive: true }));

describe("npm run gen:check", () => {
  it("passes on what npm run gen made", () => {
    expect(run("gen:check")).toEqual({ code: 0, output: expect.stringContaining("up to date") });
  });

  it("fails when the contract changed and the stubs did not", () => {
    edit(
      MESSAGES,
      "  int64 seq = 6;",
      "  int64 seq = 6;\n\n  // A new field.\n  string mood = 90;",
    );
    const { code, output } = run("gen:check");
    expect(code).toBe(1);
    expect(output).toContain("run `npm run gen`");
    expect(output).toContain("differs: agentstore.binpb");
    expect(output).toContain("differs: agentstore/v1/messages.ts");
    expect(output).not.toContain("agentstore/v1/search.ts");
  });

  it("fails when a stub was edited by hand, is missing, or is left over", () => {
    edit("gen/agentstore/v1/search.ts", "limit", "limits");
    rmSync(path.join(copy, "gen/agentstore/v1/errors.ts"));
    writeFileSync(path.join(copy, "gen/agentstore/v1/gone.ts"), "export {};\n");
    const { code, output } = run("gen:check");
    expect(code).toBe(1);
    expect(output).toContain("differs: agentstore/v1/search.ts");
    expect(output).toContain("missing: agentstore/v1/errors.ts");
    expect(output).toContain("not generated: agentstore/v1/gone.ts");
  });
});

describe("npm run proto:check", () => {
  it("passes on the accepted contract, whatever its comments say", () => {
    edit(MESSAGES, "// Who speaks.\n  Role", "// Who is speaking.\n  Role");
    expect(run("proto:check")).toEqual({ code: 0, output: expect.stringContaining("as accepted") });
  });

  it.each([
    ["a field's type changes", "  int64 seq = 6;", "  int32 seq = 6;"],
    ["a field's number changes", "  string payload = 10;", "  string payload = 20;"],
    ["an enum value is renamed", "ROLE_TOOL = 4", "ROLE_FUNCTION = 4"],
    [
      "a field is removed",
      "  // The page; never empty.\n  repeated AgentMessage messages = 1;\n\n",
      "",
    ],
  ])("fails when %s", (_, before, after) => {
    edit(MESSAGES, before, after);
    const { code, output } = run("proto:check");
    expect(code).toBe(1);
    expect(output).toContain("breaks clients");
  });

  it("fails when an RPC is removed", () => {
    const file = "proto/agentstore/v1/agent_store.proto";
    edit(file, /\n {2}rpc GetSessionStats[^}]+\}/, "");
    expect(run("proto:check")).toEqual({
      code: 1,
      output: expect.stringMatching(/GetSessionStats[\s\S]*breaks clients/),
    });
  });

  it("fails on growth until it is accepted, and from then on protects it", () => {
    const added = "\n\n  // How the speaker feels.\n  string mood = 90;";
    edit(MESSAGES, "  int64 revision = 14;", `  int64 revision = 14;${added}`);
    expect(run("proto:check")).toEqual({
      code: 1,
      output: expect.stringContaining("run `npm run proto:accept`"),
    });
    expect(run("proto:accept").code).toBe(0);
    expect(run("proto:check").code).toBe(0);
    edit(MESSAGES, added, "");
    expect(run("proto:check").output).toContain("breaks clients");
    expect(run("proto:accept").output).toContain("Not accepted");
    expect(run("proto:check").code).toBe(1);
    expect(run("proto:accept", "--breaking").code).toBe(0);
    expect(run("proto:check").code).toBe(0);
  });

  it("fails on an uncommented field", () => {
    edit(MESSAGES, "  // The session.\n", "");
    expect(run("proto:check")).toEqual({
      code: 1,
      output: expect.stringContaining("should have a non-empty comment"),
    });
  });

  it("fails on a file that is not formatted", () => {
    edit(MESSAGES, "  int64 seq = 6;", "  int64   seq = 6;");
    expect(run("proto:check")).toEqual({
      code: 1,
      output: expect.stringContaining("not formatted"),
    });
  });
});

describe("npm run docs:check", () => {
  it("fails when a reason's comment changed and docs/errors.md did not", () => {
    expect(run("docs:check").code).toBe(0);
    edit("proto/agentstore/v1/errors.proto", "correct the request", "put the request right");
    expect(run("gen").code).toBe(0);
    expect(run("docs:check")).toEqual({
      code: 1,
      output: expect.stringContaining("run `npm run docs:errors`"),
    });
  });

  it("fails when a reason does not say what the client does", () => {
    edit("proto/agentstore/v1/errors.proto", /\n {2}\/\/ Client: start again[^\n]+/, "");
    expect(run("gen").code).toBe(0);
    expect(run("docs:check")).toEqual({
      code: 1,
      output: expect.stringContaining("ERROR_REASON_INVALID_PAGE_TOKEN"),
    });
  });
});

describe("npm run lint", () => {
  it("passes on a clean file", () => {
    write("server/clean.ts", "export const answer = 42;\n");
    expect(run("lint").code).toBe(0);
  });

  it.each([
    ["a floating promise", "export function a(b: () => Promise<void>): void {\n  b();\n}\n"],
    ["an explicit any", "export const a: any = 1;\n"],
    ["an unused variable", "export function a(): void {\n  const unused = 1;\n}\n"],
    ["a file that is not formatted", "export const a = 'single'\n"],
    ["a switch that forgets a case", FORGETFUL_SWITCH],
  ])("fails on %s", (_, source) => {
    write("server/spoilt.ts", source);
    const { code, output } = run("lint");
    expect(code).not.toBe(0);
    expect(output).toContain("spoilt.ts");
  });
});

/** Runs an npm script in the copy. */
function run(script: string, ...args: string[]): { code: number | null; output: string } {
  const { status, stdout, stderr, error } = spawnSync("npm", ["run", script, "--", ...args], {
    cwd: copy,
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1" },
  });
  if (error) throw error;
  return { code: status, output: stdout + stderr };
}

/** Replaces a text in a file of the copy; the text has to be there. */
function edit(file: string, before: string | RegExp, after: string): void {
  const text = readFileSync(path.join(copy, file), "utf8");
  const edited = text.replace(before, after);
  expect(edited, `${file} has no ${String(before)}`).not.toBe(text);
  writeFileSync(path.join(copy, file), edited);
}

function write(file: string, text: string): void {
  mkdirSync(path.dirname(path.join(copy, file)), { recursive: true });
  writeFileSync(path.join(copy, file), text);
}
