// UpdateMessage: the fields that a mask names, as a new version.
import { type AgentMessage, NewMessage, Role } from "../../gen/agentstore/v1/messages.js";
import type {
  UpdateMessageRequest,
  UpdateMessageResponse,
} from "../../gen/agentstore/v1/versions.js";
import { checkRequestId } from "../idempotency/requests.js";
import { present } from "../present.js";
import type { Limits } from "../rpc/call.js";
import { FieldChecks } from "../rpc/field-checks.js";
import type { UnaryRpc } from "../rpc/method.js";
import { assertSize, checkMessage } from "./check-message.js";
import { messageDeleted } from "./errors.js";
import { toAgentMessage } from "./message.js";
import { changeMessage, checkExpectedRevision } from "./versions/change.js";
import { contentValues } from "./versions/content-values.js";
import * as sql from "./versions/sql.js";

const FIELDS = {
  role: "role",
  content: "content",
  timestamp_ms: "timestampMs",
  name: "name",
  tool_calls: "toolCalls",
  tool_call_id: "toolCallId",
  payload: "payload",
  payload_type: "payloadType",
  metadata: "metadata",
  usage: "usage",
} as const;
type Path = keyof typeof FIELDS;
const MASKABLE = Object.keys(FIELDS) as Path[];

export const updateMessage: UnaryRpc<UpdateMessageRequest, UpdateMessageResponse> = {
  validate({ message, updateMask, requestId, expectedRevision }, check) {
    if (message) {
      check.positive("message.conversation_id", message.conversationId);
      check.positive("message.seq", message.seq);
    } else {
      check.fail("message", "is required");
    }
    const paths: string[] = updateMask ?? [];
    if (paths.length === 0) {
      check.fail("update_mask", `must name at least one of ${MASKABLE.join(", ")}`);
    } else if (!paths.every((path) => Object.hasOwn(FIELDS, path))) {
      check.fail("update_mask", `may name only ${MASKABLE.join(", ")}`);
    }
    checkRequestId(check, requestId);
    checkExpectedRevision(expectedRevision, check);
  },

  async handle(request, context) {
    const given = present(request.message);
    const { conversationId, seq } = given;
    const { requestId, expectedRevision } = request;
    const mask = [...new Set(request.updateMask)] as Path[];
    const key = { conversationId, seq, requestId, expectedRevision };
    return await changeMessage(context, key, request, {
      rpc: "UpdateMessage",
      fields: mask,
      async apply(queries, current, stamp) {
        if (current.deleted_at) throw messageDeleted(key);
        const before = toAgentMessage(current);
        const after = { ...before, ...pick(given, mask) };
        assertAcceptable(after, mask, context.limits);
        const [row] = await queries.query(sql.updateMessage, [
          ...stamp,
          mask,
          ...contentValues(after),
        ]);
        return present(row);
      },
    });
  },
};

function pick(message: AgentMessage, mask: Path[]): Partial<AgentMessage> {
  return Object.fromEntries(mask.map((path) => [FIELDS[path], message[FIELDS[path]]]));
}

// The message as it will be has to be one that could be appended, as far as the change reaches: an
// older table may hold what no append would be allowed to.
function assertAcceptable(after: AgentMessage, mask: Path[], limits: Limits): void {
  const reach = new Set<Path>([...mask, "role"]);
  if (mask.includes("role")) reach.add("tool_calls").add("tool_call_id");
  if (mask.includes("payload") || mask.includes("payload_type")) {
    reach.add("payload").add("payload_type");
  }
  const known = after.role === Role.UNSPECIFIED && !mask.includes("role") ? Role.USER : after.role;
  const changed = NewMessage.fromPartial({});
  Object.assign(changed, pick({ ...after, role: known }, [...reach]));
  const check = new FieldChecks();
  checkMessage("message", changed, check, limits);
  check.throwIfAny();
  assertSize("message", { ...after, role: known }, limits.messageBytes);
}
