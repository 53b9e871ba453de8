// OpenAI's chat form: a line {"messages": […]} for each session.
import { toLlmJson } from "../../../client/openai.js";
import type { AgentMessage as ClientMessage } from "../../../client/types.js";
import type { AgentMessage } from "../../../gen/agentstore/v1/messages.js";
import { roleName } from "../../messages/message.js";
import { present } from "../../present.js";
import type { Format } from "./format.js";

export const openAi: Format = {
  begin: () => "",
  beginSession: () => `{"messages":[`,
  message: ({ version }, _, first) => `${first ? "" : ","}${chatMessage(present(version.message))}`,
  endSession: () => "]}\n",
  end: () => "",
};

function chatMessage(stored: AgentMessage): string {
  const message: ClientMessage = { ...stored, role: roleName(stored.role) ?? "unknown" };
  const text = toLlmJson(message);
  // Whoever stored the payload may have put something else than JSON in it.
  return onOneLine(isJson(text) ? text : toLlmJson({ ...message, payload: "" }));
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

// Line breaks in JSON stand between tokens only, where a space means the same.
function onOneLine(text: string): string {
  return text.replaceAll(/[\r\n]/g, " ");
}
