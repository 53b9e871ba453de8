// RevertMessage: makes a message again what one of its versions was.
import type {
  RevertMessageRequest,
  RevertMessageResponse,
} from "../../gen/agentstore/v1/versions.js";
import type { UnaryRpc } from "../rpc/method.js";
import { versionNotFound } from "./errors.js";
import { changeMessage, checkChange } from "./versions/change.js";
import * as sql from "./versions/sql.js";

export const revertMessage: UnaryRpc<RevertMessageRequest, RevertMessageResponse> = {
  validate(request, check) {
    checkChange(request, check);
    check.positive("version", request.version);
  },

  async handle(request, context) {
    const { version } = request;
    return await changeMessage(context, request, request, {
      rpc: "RevertMessage",
      async apply(queries, current, stamp) {
        const [row] = await queries.query(sql.revertMessage, [...stamp, version]);
        if (!row) throw versionNotFound(request, version, current.version);
        return row;
      },
    });
  },
};
