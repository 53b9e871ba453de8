// UndeleteMessage: brings a deleted message back.
import type {
  UndeleteMessageRequest,
  UndeleteMessageResponse,
} from "../../gen/agentstore/v1/versions.js";
import { present } from "../present.js";
import type { UnaryRpc } from "../rpc/method.js";
import { messageNotDeleted } from "./errors.js";
import { changeMessage, checkChange } from "./versions/change.js";
import * as sql from "./versions/sql.js";

export const undeleteMessage: UnaryRpc<UndeleteMessageRequest, UndeleteMessageResponse> = {
  validate: checkChange,

  async handle(request, context) {
    return await changeMessage(context, request, request, {
      rpc: "UndeleteMessage",
      async apply(queries, current, stamp) {
        if (!current.deleted_at) throw messageNotDeleted(request);
        const [row] = await queries.query(sql.undeleteMessage, stamp);
        return present(row);
      },
    });
  },
};
