// Writes a session as one JSON line: in OpenAI's form, or in the form that it was imported from.
import { type AgentMessage, type AgentSession, toLlmJson } from "../../client/index.js";
import { members } from "../json-slices.js";
import { metadataKeys } from "../source-forms.js";

/** A line with its messages left out: they go between the two texts, a comma between each. */
export interface Envelope {
  before: string;
  after: string;
  /** One message as JSON text on one line. */
  message: (message: AgentMessage) => string;
}

/** The form of OpenAI's chat messages. */
export function openAiEnvelope(): Envelope {
  return { before: '{"messages":[', after: "]}", message: openAiLine };
}

/** The form that the session's conversation was imported from; OpenAI's where it was not. */
export function sourceEnvelope(session: AgentSession): Envelope {
  const metadata = session.metadata ?? {};
  const form = metadata[metadataKeys.form];
  if (form === "array") return { before: "[", after: "]", message: sourceLine };
  const key = form === "conversations" ? "conversations" : "messages";
  const others = otherMembers(metadata).map((text) => `,${text}`);
  return { before: `{"${key}":[`, after: `]${others.join("")}}`, message: sourceLine };
}

function otherMembers(metadata: Record<string, unknown>): string[] {
  const exact = metadata[metadataKeys.sourceJson];
  if (typeof exact === "string" && isJson(exact)) {
    return members(exact).map(({ key, raw }) => `${JSON.stringify(key)}:${onOneLine(raw)}`);
  }
  const parsed = metadata[metadataKeys.source];
  if (typeof parsed !== "object" || parsed === null) return [];
  return Object.entries(parsed).map(
    ([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`,
  );
}

function openAiLine(message: AgentMessage): string {
  const text = toLlmJson(message);
  // Whoever stored the payload may have put something else than JSON in it.
  return onOneLine(isJson(text) ? text : toLlmJson({ ...message, payload: "" }));
}

function sourceLine(message: AgentMessage): string {
  return isJson(message.payload) ? onOneLine(message.payload) : openAiLine(message);
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Line breaks in JSON stand between tokens only, where a space means the same. */
function onOneLine(json: string): string {
  return json.replaceAll(/[\r\n]/g, " ");
}
