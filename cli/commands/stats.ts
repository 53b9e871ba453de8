// `agentstore stats`: shows the counts and sums of one session.
import { Command } from "commander";
import type { SessionStats } from "../../client/index.js";
import { type PrintOptions, sessionId, withJsonOption, withStoreOptions } from "../options.js";
import { style, write, writeJson } from "../output.js";
import { formatTime } from "../show/text.js";

/** Defines the command. */
export function statsCommand(): Command {
  const command = new Command("stats")
    .summary("show the counts and sums of a session")
    .description("Shows how many messages a session has, of which roles, and what they used.")
    .argument("<id>", "the session's id", sessionId);
  return withStoreOptions(withJsonOption(command, "one JSON document"))
    .addHelpText(
      "after",
      `
Examples:
  agentstore stats 42
  agentstore stats 42 --json | jq -r .totalMessages

Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token`,
    )
    .action(async (id: bigint, flags: PrintOptions) => {
      const { withStore } = await import("../connect.js");
      await withStore(flags, async (store) => {
        const stats = await store.getSessionStats(id);
        if (flags.json) await writeJson({ conversationId: id, ...stats });
        else await write(lines(stats));
      });
    });
}

function lines(stats: SessionStats): string {
  const usage = stats.totalUsage;
  const facts: [string, string][] = [
    ["messages", number(stats.totalMessages)],
    ["  system", number(stats.systemMessages)],
    ["  user", number(stats.userMessages)],
    ["  assistant", number(stats.assistantMessages)],
    ["  tool", number(stats.toolMessages)],
    ["characters", number(stats.totalCharacters)],
    ["first message", stats.firstMessageTime ? formatTime(stats.firstMessageTime) : "-"],
    ["last message", stats.lastMessageTime ? formatTime(stats.lastMessageTime) : "-"],
    ["input tokens", number(usage.inputTokens)],
    ["  cached", number(usage.cachedTokens)],
    ["output tokens", number(usage.outputTokens)],
    ["  reasoning", number(usage.reasoningTokens)],
    ["cost (millionths)", number(usage.costMicros)],
  ];
  return facts.map(([name, value]) => `${style("bold", name.padEnd(18))} ${value}\n`).join("");
}

function number(value: bigint): string {
  return value.toLocaleString("en");
}
