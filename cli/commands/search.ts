// `agentstore search`: finds messages by their text.
import { Command, Option } from "commander";
import type {
  AgentMessage,
  Role,
  SearchFilter,
  SearchMessagesOptions,
  SearchResult,
  SearchSnippet,
} from "../../client/index.js";
import { several, time } from "../filter-options.js";
import {
  integer,
  type PrintOptions,
  required,
  withJsonOption,
  withStoreOptions,
} from "../options.js";
import { oneLine, style, visible, write, writeJson } from "../output.js";
import { formatMessageTime } from "../show/text.js";

interface SearchFlags extends PrintOptions {
  model?: string;
  mode: "substring" | "full-text" | "semantic" | "hybrid";
  newest?: boolean;
  language?: string;
  session?: number;
  owner?: string;
  role?: Role[];
  tag?: string[];
  since?: Date;
  until?: Date;
  context: number;
  limit: number;
}

/** Defines the command. */
export function searchCommand(): Command {
  const command = new Command("search")
    .summary("find messages by what they say")
    .description(
      `Finds the messages whose content contains a text, upper and lower case alike, newest first; with
--mode full-text, those that have words in any of their forms, best first; with --mode semantic, those
that mean something alike, and with --mode hybrid both, where the server embeds messages.`,
    )
    .argument("<query>", "the text, taken literally; or words", required)
    .option("--model <model>", "only in the sessions of this model")
    .addOption(
      new Option("--mode <mode>", "how to understand the query")
        .choices(["substring", "full-text", "semantic", "hybrid"])
        .default("substring"),
    )
    .option("--newest", "newest first in every mode")
    .option("--language <language>", "of the words, for example german")
    .option("--session <id>", "only in this session", integer(1, Number.MAX_SAFE_INTEGER))
    .option("--owner <id>", "only in the sessions of this owner", required)
    .addOption(
      new Option("--role <role...>", "only messages of these roles").choices([
        "system",
        "user",
        "assistant",
        "tool",
      ]),
    )
    .option("--tag <tag>", "only in sessions with this tag; several times: with all", several)
    .option("--since <time>", "only messages that are not older (RFC 3339)", time)
    .option("--until <time>", "only messages that are older (RFC 3339)", time)
    .option("--context <number>", "how many messages to show around each", integer(0, 10), 0)
    .option("--limit <number>", "how many messages to find at the most", integer(1, 1000), 20);
  return withStoreOptions(withJsonOption(command, "a JSON line for each message"))
    .addHelpText(
      "after",
      `
Examples:
  agentstore search "refund"
  agentstore search --mode full-text '"gift card" refund -cancelled' --context 2
  agentstore search 发票 --role user --since 2026-03-01T00:00:00Z --limit 5
  agentstore search timeout --json | jq -r '[.conversationId, .seq] | @tsv'

Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token`,
    )
    .action(search);
}

async function search(query: string, flags: SearchFlags): Promise<void> {
  const { withStore } = await import("../connect.js");
  await withStore(flags, async (store) => {
    const { results } = await store.searchPage(flags.model ?? "", query, optionsOf(flags));
    if (flags.json) {
      for (const { message, ...found } of results) await writeJson({ ...message, ...found });
    } else if (results.length === 0) {
      await write(
        flags.mode === "substring" ? "No message contains this text.\n" : "No message has this.\n",
      );
    } else {
      const between = flags.context > 0 ? "\n" : "";
      await write(`${style("bold", HEADER)}${results.map(shown).join(between)}`);
    }
  });
}

function optionsOf(flags: SearchFlags): SearchMessagesOptions {
  const { since, until, context, limit, language } = flags;
  const filter: SearchFilter = {
    conversationId: flags.session,
    ownerId: flags.owner,
    roles: flags.role,
    allTags: flags.tag,
    timestamp: since || until ? { start: since, end: until } : undefined,
  };
  return {
    mode: flags.mode === "full-text" ? "full_text" : flags.mode,
    order: flags.newest ? "newest_first" : undefined,
    language,
    filter,
    limit,
    contextBefore: context,
    contextAfter: context,
  };
}

const HEADER = `${"SESSION".padStart(8)} ${"SEQ".padStart(6)}  ${"ROLE".padEnd(9)}  TIME AND TEXT\n`;

/** A result on a line, and what was said around it on lines of their own. */
function shown({ message, snippet, before, after }: SearchResult): string {
  const { conversationId, seq, role } = message;
  const place = `${String(conversationId).padStart(8)} ${String(seq).padStart(6)}`;
  const line = `${place}  ${role.padEnd(9)}  ${formatMessageTime(message)}  ${highlighted(snippet, message)}`;
  return [...before.map(around), line, ...after.map(around)].map((one) => `${one}\n`).join("");
}

const AROUND = 160;

function around({ role, content, seq }: AgentMessage): string {
  const characters = [...content];
  const cut = characters.length > AROUND ? `${characters.slice(0, AROUND).join("")}…` : content;
  return style("dim", `${String(seq).padStart(15)}  ${role.padEnd(9)}  ${oneLine(cut)}`);
}

function highlighted({ text, offset, hits }: SearchSnippet, { content }: AgentMessage): string {
  const characters = [...text];
  const parts: string[] = [offset > 0 ? "…" : ""];
  let at = 0;
  const add = (until: number, format: (part: string) => string) => {
    parts.push(format(visible(characters.slice(at, until).join("").replaceAll(/\s/g, " "))));
    at = until;
  };
  for (const hit of hits) {
    add(hit.offset, (part) => part);
    add(hit.offset + hit.length, (part) => style(["bold", "yellow"], part));
  }
  add(characters.length, (part) => part);
  const ended = content.endsWith(text) && offset + characters.length >= [...content].length;
  return `${parts.join("")}${ended ? "" : "…"}`;
}
