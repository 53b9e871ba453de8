// Decodes requests strictly: bytes that are no valid message never reach a handler.
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { RpcError } from "../errors/rpc-error.js";
import { checkWire } from "./check-wire.js";

class StrictReader extends BinaryReader {
  override string(): string {
    return super.string(true);
  }
}

/** Decodes one type of message; ts-proto's generated decoders take a reader as well as bytes. */
export type Decode = (input: BinaryReader) => unknown;

/**
 * Decodes a request.
 *
 * @param decode ts-proto's decoder of the request
 * @param typeName its name in the package agentstore.v1
 * @throws INVALID_UTF8 naming the field; INVALID_FIELD for a Struct or Timestamp
 *   that cannot be kept; MALFORMED_REQUEST for all other bytes that are no such
 *   message
 */
export function decodeRequest(decode: Decode, typeName: string, bytes: Uint8Array): unknown {
  const type = `.agentstore.v1.${typeName}`;
  try {
    checkWire(type, new StrictReader(bytes), { texts: false });
    try {
      return decode(new StrictReader(bytes));
    } catch (error) {
      // Only now, as texts are long: which field is it?
      checkWire(type, new StrictReader(bytes), { texts: true });
      throw error;
    }
  } catch (error) {
    if (error instanceof RpcError) throw error;
    throw new RpcError(
      "MALFORMED_REQUEST",
      "the request is not a well-formed protobuf message of this method's type",
    );
  }
}
