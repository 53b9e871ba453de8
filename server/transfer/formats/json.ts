// JSON: one array of sessions, each with its messages, for programs.
import { AgentMessage } from "../../../gen/agentstore/v1/messages.js";
import { AgentSession } from "../../../gen/agentstore/v1/sessions.js";
import { present } from "../../present.js";
import type { Format } from "./format.js";

export const json: Format = {
  begin: () => "[",
  beginSession: (session, first) =>
    `${first ? "" : ","}\n{"session":${JSON.stringify(AgentSession.toJSON(session))},"messages":[`,
  message: ({ version }, _, first) =>
    `${first ? "" : ","}\n${JSON.stringify(AgentMessage.toJSON(present(version.message)))}`,
  endSession: () => "]}",
  end: () => "\n]\n",
};
