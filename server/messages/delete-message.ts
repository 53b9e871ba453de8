// DeleteMessage: one message, which keeps its seq and its history.
import type {
  DeleteMessageRequest,
  DeleteMessageResponse,
} from "../../gen/agentstore/v1/versions.js";
import { present } from "../present.js";
import type { UnaryRpc } from "../rpc/method.js";
import { forgetMessage } from "../search/forget.js";
import { messageDeleted } from "./errors.js";
import { changeMessage, checkChange } from "./versions/change.js";
import * as sql from "./versions/sql.js";

export const deleteMessage: UnaryRpc<DeleteMessageRequest, DeleteMessageResponse> = {
  validate: checkChange,

  async handle(request, context) {
    return await changeMessage(context, request, request, {
      rpc: "DeleteMessage",
      async apply(queries, current, stamp) {
        if (current.deleted_at) throw messageDeleted(request);
        const [[row]] = await Promise.all([
          queries.query(sql.deleteMessage, stamp),
          forgetMessage(queries, request.conversationId, request.seq),
        ]);
        return present(row);
      },
    });
  },
};
