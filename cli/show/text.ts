// Writes a session as a transcript for people.
import type { AgentMessage, AgentSession } from "../../client/index.js";
import { oneLine, style, visible } from "../output.js";

/** A time to the second, in UTC. */
export function formatTime(time: Date): string {
  const text = time.toISOString();
  return `${text.slice(0, text.indexOf("T"))} ${text.slice(text.indexOf("T") + 1, -5)}Z`;
}

/** When a message was said; a dash when that is not known. */
export function formatMessageTime(message: AgentMessage): string {
  return message.timestampMs === 0n ? "-" : formatTime(new Date(Number(message.timestampMs)));
}

/** The lines above a transcript; count is that of the messages that are not deleted. */
export function transcriptHeader(session: AgentSession, count: bigint): string {
  const facts = [
    `Session ${session.id}`,
    oneLine(session.modelId),
    `${count} message${count === 1n ? "" : "s"}`,
    `created ${formatTime(session.createdAt)}`,
  ];
  const title = session.title === "" ? "" : `${oneLine(session.title)}\n`;
  return `${style("bold", facts.join(" · "))}\n${title}`;
}

const ROLE_COLOURS = {
  system: "magenta",
  user: "cyan",
  assistant: "green",
  tool: "yellow",
  unknown: "red",
} as const;

/** One message of a transcript. */
export function transcriptMessage(message: AgentMessage): string {
  const speaker = message.name === "" ? message.role : `${message.role} (${oneLine(message.name)})`;
  const answers = message.toolCallId === "" ? "" : ` answers ${oneLine(message.toolCallId)}`;
  const deleted = message.deletedAt === undefined ? "" : " (deleted)";
  const head = style(ROLE_COLOURS[message.role], `[${message.seq}] ${speaker}${answers}${deleted}`);
  const calls = message.toolCalls.map((call) =>
    `→ ${oneLine(call.name)}(${visible(call.arguments)})  ${oneLine(call.id)}`.trimEnd(),
  );
  const body = message.content === "" ? [] : [visible(message.content)];
  return `\n${[`${head}  ${formatMessageTime(message)}`, ...body, ...calls].join("\n")}\n`;
}
