// The documentation agrees with the program, and its links lead somewhere.
import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { ErrorReason } from "../../gen/agentstore/v1/errors.js";
import { limits } from "../../server/config.js";

const root = path.resolve(import.meta.dirname, "../..");
const docs = await readdir(path.join(root, "docs"), { recursive: true });
const pages = [
  "README.md",
  "CONTRIBUTING.md",
  "CHANGELOG.md",
  ...docs.filter((file) => file.endsWith(".md")).map((file) => path.join("docs", file)),
];

describe.each(pages)("%s", (page) => {
  it("links to files and headings that are there", async () => {
    const text = await read(page);
    const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, link = ""]) => link)
      .filter((link) => !/^https?:/.test(link));
    const broken: string[] = [];
    for (const link of links) {
      const [file = "", anchor] = link.split("#");
      const target = file === "" ? page : path.join(path.dirname(page), file);
      const linked = await read(target).catch(() => undefined);
      const there = linked !== undefined && (!anchor || anchorsOf(linked).includes(anchor));
      if (!there) broken.push(link);
    }
    expect(broken).toEqual([]);
  });
});

describe("docs/errors.md", () => {
  it("has a section for each reason", async () => {
    const reasons = Object.keys(ErrorReason).filter(
      (name) => name !== "UNSPECIFIED" && name !== "UNRECOGNIZED",
    );
    expect(reasons).toContain("SESSION_NOT_FOUND");
    expect(headingsOf(await read("docs/errors.md"))).toEqual(["Errors", ...reasons]);
  });
});

describe("docs/concepts.md", () => {
  it("states the limits that the server has", async () => {
    const n = (value: number) => value.toLocaleString("en");
    const seconds = (ms: bigint) => Number(ms) / 1000;
    const page = await read("docs/concepts.md");
    const table = /^\| what \| limit \|\n\|---\|---\|\n((?:\|.*\n)+)/m.exec(page)?.[1];
    expect(table?.split("\n").filter(Boolean)).toEqual([
      "| one message, encoded | 4 MiB, set by `--max-message-bytes` |",
      `| messages in one AddMessages | 1 to ${n(limits.batchMessages)} |`,
      `| one request, encoded | ${mib(limits.requestBytes)} |`,
      `| \`page_size\` | 1 to ${n(limits.pageSizeMost)}; 0 means ${limits.pageSizeDefault} |`,
      `| a page of large messages | ends after the message that passes ${mib(limits.pageBytes)} |`,
      `| results of one search | 1 to ${n(limits.pageSizeMost)}; 0 means ${limits.searchLimitDefault} |`,
      `| numbers of an embedding | 1 to ${n(limits.embeddingDimensions)}, finite, not all zero |`,
      `| results of a search by meaning | ${n(limits.searchRanked)} on all pages; up to ${n(limits.searchVectors)} vectors without pgvector |`,
      `| search text | 1 to ${n(limits.queryCharacters)} characters, no U+0000 |`,
      `| a lease | ${n(seconds(limits.leaseMsLeast))} to ${n(seconds(limits.leaseMsMost))} s; ${seconds(limits.leaseMsDefault)} s where \`ttl_ms\` is 0 |`,
      `| \`holder\` of a lease | 1 to ${limits.idCharacters} characters |`,
      `| \`max_messages\` of LoadContext | 1 to ${n(limits.pageSizeMost)}; 0 means ${limits.pageSizeDefault} |`,
      `| a context of large messages | ends after the page that passes ${mib(limits.contextBytes)} |`,
      `| calls that one RepairSession closes | ${n(limits.batchMessages)} |`,
      `| \`request_id\` | ${limits.requestIdCharacters} characters |`,
      `| \`model_id\`, \`owner_id\`, \`payload_type\` | ${limits.idCharacters} characters |`,
      `| \`name\`, \`tool_call_id\`, a tool call's id and name | ${n(limits.nameCharacters)} characters |`,
      `| \`title\` | ${n(limits.titleCharacters)} characters |`,
      `| \`tags\` | ${limits.tags}, each 1 to ${limits.tagCharacters} characters |`,
      `| a filter of sessions | ${limits.filterAllTags} \`all_tags\`, ${limits.tags} \`any_tags\`, ${limits.filterMetadataBytes / 1024} KiB of \`metadata\` |`,
      `| a session's state | ${mib(limits.stateBytes)} of JSON text |`,
      `| a model's retention | ${limits.retentionLeastMs / 60_000n} minute to ${n(Number(limits.retentionMostMs / 86_400_000n))} days |`,
      `| snapshots of a session | ${limits.snapshots}; a name has ${limits.snapshotNameCharacters} characters |`,
      `| a policy of snapshots | every ${n(Number(limits.snapshotEveryMessages))} messages, every ${n(Number(limits.snapshotEveryMinutes))} minutes, at the most |`,
      `| tool calls of one message | ${n(limits.toolCalls)} |`,
      `| \`metadata\` | ${limits.metadataBytes / 1024} KiB as JSON, nested ${limits.metadataDepth} deep |`,
      `| one call, or one page of a stream | ${limits.callMs / 1000} s |`,
      `| sessions that an export names one by one | ${n(limits.exportIds)} |`,
      `| one import | ${n(limits.importSessions)} sessions, lines of ${mib(limits.importLineBytes)}, chunks of ${mib(limits.importChunkBytes)} |`,
      `| calls that wait for a database connection | ${n(limits.waitingCalls)}, each for ${limits.acquireMs / 1000} s |`,
    ]);
  });
});

describe("docs/operations.md", () => {
  it("lists the flags of serve, with their defaults", async () => {
    const help = await agentstore("serve", "--help");
    const page = await read("docs/operations.md");
    const documented = [...page.matchAll(/^\| `(--[\w-]+)` \|(.*?)\|/gm)].map(
      ([, flag = "", shown = ""]) => `${flag} ${shown.replaceAll("`", "").trim()}`,
    );
    const options = /^Options:\n(.*?)\n\n/ms.exec(help)?.[1]?.split(/\n(?= {2}-)/) ?? [];
    const there = options
      .map((option) => option.replaceAll(/\s+/g, " ").trim())
      .map((option) => {
        const [flag = ""] = option.split(" ");
        const variable = new RegExp(`^ +(\\w+) +as ${flag}$`, "m").exec(help)?.[1] ?? "";
        return `${flag} ${/default: "?([^",)]+)/.exec(option)?.[1] ?? variable}`;
      })
      .filter((option) => !option.startsWith("-h"));
    expect(documented).toEqual(there);
  });
});

describe("docs/decisions/README.md", () => {
  it("lists every record", async () => {
    const page = await read("docs/decisions/README.md");
    const listed = [...page.matchAll(/\((\d{4}-[\w-]+\.md)\)/g)].map(([, file]) => file);
    const records = docs
      .filter((file) => /^decisions\/\d/.test(file))
      .map((file) => path.basename(file));
    expect(listed).toEqual(records.toSorted((a, b) => a.localeCompare(b)));
  });
});

describe("CONTRIBUTING.md", () => {
  it("lists the npm scripts that there are", async () => {
    const { scripts } = JSON.parse(await read("package.json")) as { scripts: object };
    const there = Object.keys(scripts).filter((name) => !/^(pre|post)/.test(name));
    const page = await read("CONTRIBUTING.md");
    const listed = [...page.matchAll(/^\| `npm (?:run )?([\w:]+)` \|/gm)].map(([, name]) => name);
    expect(new Set(listed)).toEqual(new Set(there));
  });

  it("names places that are there", async () => {
    const page = await read("CONTRIBUTING.md");
    const places = [...page.matchAll(/^\| (`[^|]+`) \| /gm)]
      .flatMap(([, cell = ""]) => [...cell.matchAll(/`([^`]+)`/g)].map(([, place = ""]) => place))
      .filter((place) => !/^(npm|bash) /.test(place));
    expect(places).toContain("server/db/");
    const all = await readdir(root);
    for (const place of places) {
      const [top = "", ...rest] = place.split("/").filter(Boolean);
      const within =
        rest.length > 0 ? await readdir(path.join(root, top), { recursive: true }) : [];
      expect([...all, ...within.map((file) => path.join(top, file))]).toContain(
        path.join(top, ...rest),
      );
    }
  });
});

async function read(file: string): Promise<string> {
  return readFile(path.join(root, file), "utf8");
}

async function agentstore(...args: string[]): Promise<string> {
  const main = path.join(root, "dist/cli/main.js");
  const { stdout } = await promisify(execFile)(process.execPath, [main, ...args]);
  return stdout;
}

function headingsOf(markdown: string): string[] {
  const prose = markdown.replaceAll(/^```[\s\S]*?^```$/gm, "");
  return [...prose.matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) => heading);
}

/** The anchors that a heading gets where Markdown is shown. */
function anchorsOf(markdown: string): string[] {
  return headingsOf(markdown).map((heading) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, "")
      .replaceAll(" ", "-"),
  );
}

function mib(bytes: number): string {
  return `${bytes / 1024 / 1024} MiB`;
}
