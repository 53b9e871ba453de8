// The keys of AgentMessage's fields on the wire: the field's number, then 0 for a varint or 2 for
// what has a length. And that of `repeated AgentMessage messages = 1`, which all answers have.

export const MESSAGES = (1 << 3) | 2;

export const ID = 1 << 3;
export const CONVERSATION_ID = 2 << 3;
export const ROLE = 3 << 3;
export const CONTENT = (4 << 3) | 2;
export const TIMESTAMP_MS = 5 << 3;
export const SEQ = 6 << 3;
export const NAME = (7 << 3) | 2;
export const TOOL_CALLS = (8 << 3) | 2;
export const TOOL_CALL_ID = (9 << 3) | 2;
export const PAYLOAD = (10 << 3) | 2;
export const PAYLOAD_TYPE = (11 << 3) | 2;
export const METADATA = (12 << 3) | 2;
export const USAGE = (13 << 3) | 2;
export const REVISION = 14 << 3;
export const EDITED_AT = (15 << 3) | 2;
export const VERSION = 16 << 3;
export const DELETED_AT = (17 << 3) | 2;
