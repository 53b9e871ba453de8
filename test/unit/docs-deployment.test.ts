// The Dockerfile and the compose file keep what they promise, as far as can be seen without Docker.
import { readdir, readFile, stat } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";

const root = path.resolve(import.meta.dirname, "../..");
const read = (file: string) => readFile(path.join(root, file), "utf8");

interface Instruction {
  name: string;
  text: string;
}

const dockerfile = instructions(await read("Dockerfile"));
const runtime = dockerfile.slice(dockerfile.findLastIndex(({ name }) => name === "FROM"));
const compose = await read("compose.yaml");

describe("the Dockerfile", () => {
  it("has known instructions only", () => {
    const known = "FROM WORKDIR COPY RUN ENV USER EXPOSE HEALTHCHECK ENTRYPOINT CMD".split(" ");
    expect(known).toEqual(expect.arrayContaining(dockerfile.map(({ name }) => name)));
  });

  it("builds on images whose version is named", () => {
    const images = texts(dockerfile, "FROM").map((text) => text.split(" ")[0] ?? "");
    expect(images.length).toBeGreaterThan(0);
    for (const image of images) expect(image).toMatch(/^[\w./-]+:\d[\w.-]*$/);
  });

  it("builds with a Node that package.json accepts", async () => {
    const { engines } = JSON.parse(await read("package.json")) as { engines: { node: string } };
    const oldest = Number(/\d+/.exec(engines.node)?.[0]);
    for (const text of texts(dockerfile, "FROM")) {
      expect(Number(/^node:(\d+)/.exec(text)?.[1])).toBeGreaterThanOrEqual(oldest);
    }
  });

  it("copies what is there and what .dockerignore lets through", async () => {
    const sources = texts(dockerfile, "COPY")
      .filter((text) => !text.startsWith("--from="))
      .flatMap((text) => text.split(" ").slice(0, -1));
    expect(sources).toContain("package.json");
    const letThrough = (await read(".dockerignore"))
      .split("\n")
      .filter((line) => line.startsWith("!"))
      .map((line) => line.slice(1));
    for (const source of sources) {
      await expect(stat(path.join(root, source)), source).resolves.toBeDefined();
      expect(letThrough).toContain(source.split("/")[0]);
    }
  });

  it("copies all that the server reads at run time", async () => {
    const copied = texts(runtime, "COPY").flatMap((text) => text.split(" ").slice(0, -1));
    const { files } = JSON.parse(await read("package.json")) as { files: string[] };
    const needed = files.filter((file) => file !== "proto" && file !== "dist");
    expect(copied).toEqual(expect.arrayContaining([...needed, "/app/dist"]));
  });

  it("installs no development packages and runs no install scripts", () => {
    const installs = texts(dockerfile, "RUN").filter((text) => text.includes("npm ci"));
    expect(installs).toHaveLength(2);
    for (const text of installs) expect(text).toContain("--ignore-scripts");
    expect(texts(runtime, "RUN").join()).toContain("--omit=dev");
  });

  it("runs as an ordinary user from the last copy on", () => {
    const names = runtime.map(({ name }) => name);
    expect(texts(runtime, "USER")).toHaveLength(1);
    expect(Number(texts(runtime, "USER")[0]?.split(":")[0])).toBeGreaterThan(0);
    expect(names.lastIndexOf("USER")).toBeGreaterThan(names.lastIndexOf("COPY"));
    expect(names.lastIndexOf("USER")).toBeGreaterThan(names.lastIndexOf("RUN"));
  });

  it("holds no secret and does not turn protection off", () => {
    const all = dockerfile.map(({ name, text }) => `${name} ${text}`).join("\n");
    expect(all).not.toMatch(/PASSWORD|TOKEN|SECRET|DATABASE_URL|--insecure/i);
  });

  it("starts the command, and checks its health, in the form that signals reach", () => {
    expect(JSON.parse(texts(runtime, "ENTRYPOINT")[0] ?? "")).toEqual(["node", "dist/cli/main.js"]);
    expect(JSON.parse(texts(runtime, "CMD")[0] ?? "")).toEqual(["serve", "--host", "0.0.0.0"]);
    expect(texts(runtime, "EXPOSE")).toEqual(["50051 50052"]);
    const check = /CMD (\[.*\])$/.exec(texts(runtime, "HEALTHCHECK")[0] ?? "")?.[1] ?? "";
    expect(JSON.parse(check)).toEqual(["node", "scripts/healthcheck.mjs"]);
  });
});

describe("compose.yaml", () => {
  it("uses images whose version is named", () => {
    const images = [...compose.matchAll(/^ +image: (.*)$/gm)].map(([, image = ""]) => image);
    expect(images).toHaveLength(1);
    expect(images[0]).toMatch(/^postgres:18[\w.-]*$/);
  });

  it("takes the password from outside and fails without it", () => {
    const passwords = [...compose.matchAll(/PASSWORD(?::| *})(.*)$/gm)].map(([line]) => line);
    expect(passwords[0]).toMatch(/^PASSWORD: \$\{POSTGRES_PASSWORD:\?.+\}$/);
    expect(compose).toContain(
      "postgres://agentstore:${POSTGRES_PASSWORD}@postgres:5432/agentstore",
    );
  });

  it("publishes a server without TLS to this machine alone", () => {
    expect(compose).toContain("--insecure");
    const ports = /^ +ports:\n((?: +- .*\n)+)/m.exec(compose)?.[1]?.trim().split(/\n +/);
    expect(ports).toEqual(['- "127.0.0.1:50051:50051"', '- "127.0.0.1:50052:50052"']);
    expect(compose.match(/ports:/g)).toHaveLength(1);
  });

  it("is indented by spaces and names each volume that it uses", async () => {
    expect(compose).not.toContain("\t");
    const volumes = /^volumes:\n((?: {2}\w+:\n?)+)/m.exec(compose)?.[1];
    expect(volumes?.trim()).toBe("postgres:");
    expect(compose).toContain("- postgres:/var/lib/postgresql");
    expect(await readdir(root)).not.toContain(".env");
  });
});

/** Splits a Dockerfile into its instructions: without comments, continued lines joined. */
function instructions(text: string): Instruction[] {
  return text
    .replaceAll(/^#.*\n/gm, "")
    .replaceAll(/\\\n\s*/g, "")
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => {
      const [, name = "", rest = ""] = /^(\S+)\s+(.*)$/.exec(line) ?? [];
      return { name, text: rest };
    });
}

function texts(all: Instruction[], name: string): string[] {
  return all.filter((each) => each.name === name).map(({ text }) => text);
}
