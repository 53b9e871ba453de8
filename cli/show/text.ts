// Writes a session as a transcript for people.
import type { AgentMessage, AgentSession, SessionEvent } from "../../client/index.js";
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

/**
 * One message of a transcript.
 * @param beside what to say of it beside its seq: `mark` behind the speaker, `session` in front
 */
export function transcriptMessage(
  message: AgentMessage,
  beside: { mark?: string; session?: boolean } = {},
): string {
  const session = beside.session ? `${message.conversationId} ` : "";
  const speaker = message.name === "" ? message.role : `${message.role} (${oneLine(message.name)})`;
  const answers = message.toolCallId === "" ? "" : ` answers ${oneLine(message.toolCallId)}`;
  const mark = beside.mark ?? (message.deletedAt && "deleted");
  const head = style(
    ROLE_COLOURS[message.role],
    `${session}[${message.seq}] ${speaker}${answers}${mark ? ` (${mark})` : ""}`,
  );
  const calls = message.toolCalls.map((call) =>
    `→ ${oneLine(call.name)}(${visible(call.arguments)})  ${oneLine(call.id)}`.trimEnd(),
  );
  const body = message.content === "" ? [] : [visible(message.content)];
  return `\n${[`${head}  ${formatMessageTime(message)}`, ...body, ...calls].join("\n")}\n`;
}

/**
 * What has happened to a session, or nothing for what concerns the watch alone.
 * @param session whether to say which session it is
 */
export function transcriptEvent(event: SessionEvent, session: boolean): string {
  const line = (text: string) =>
    `\n${style("dim", `${session ? `${event.conversationId} ` : ""}— ${text}`)}\n`;
  switch (event.kind) {
    case "message_appended":
      return transcriptMessage(event.message, { session });
    case "message_updated": {
      const mark = `changed, version ${event.message.version}`;
      return transcriptMessage(event.message, { session, mark });
    }
    case "message_deleted":
      return transcriptMessage({ ...event.message, content: "", toolCalls: [] }, { session });
    case "session_changed":
      return line(`the session is now: ${sessionFacts(event.session)}`);
    case "session_deleted":
      return line("the session was deleted");
    default:
      return "";
  }
}

function sessionFacts({ modelId, title, ownerId, tags, expiresAt }: AgentSession): string {
  const facts = [
    oneLine(modelId),
    oneLine(title),
    ownerId && `owner ${oneLine(ownerId)}`,
    tags.length > 0 && `tags ${tags.map(oneLine).join(", ")}`,
    expiresAt && `expires ${formatTime(expiresAt)}`,
  ];
  return facts.filter(Boolean).join(" · ");
}
