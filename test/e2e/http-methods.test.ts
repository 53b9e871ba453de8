// Every RPC of the .proto files is there over HTTP, as its descriptor says.
import { create, toBinary } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { expectFault } from "./faults.js";
import { faultOfAnswer, pathOf, rpcs, send } from "./http.js";
import { useStore } from "./store.js";

const store = useStore();

const unary = rpcs.filter(({ methodKind }) => methodKind === "unary");
const streams = rpcs.filter(({ methodKind }) => methodKind !== "unary");

test("there are unary calls and streams", () => {
  expect(unary.length).toBeGreaterThan(30);
  expect(streams.map(({ name }) => name)).toContain("StreamMessages");
});

describe.each(unary)("$parent.name/$name", (rpc) => {
  const path = pathOf(rpc);

  test("answers an empty request, or says which field it wants", async () => {
    const json = await send(store.target, path, { body: {} });
    const proto = await send(store.target, path, {
      headers: { "content-type": "application/proto" },
      body: Buffer.from(toBinary(rpc.input, create(rpc.input))),
    });
    expect(proto.httpStatus).toBe(json.httpStatus);
    if (json.httpStatus === 200) {
      expect(proto.headers["content-type"]).toBe("application/proto");
      return;
    }
    const fault = faultOfAnswer(json);
    expect(fault).toMatchObject({ code: "INVALID_ARGUMENT", reason: "INVALID_FIELD" });
    expect(fault.fields.length).toBeGreaterThan(0);
    expect(faultOfAnswer(proto)).toEqual(fault);
  });

  test("names a field that it does not have", async () => {
    const fault = faultOfAnswer(await send(store.target, path, { body: { noSuchField: 1 } }));
    expectFault(fault, { reason: "INVALID_FIELD", fields: ["noSuchField"] });
  });

  test("refuses what is no message of its type", async () => {
    const answer = await send(store.target, path, {
      headers: { "content-type": "application/proto" },
      body: Buffer.from([0xff]),
    });
    expectFault(faultOfAnswer(answer), { reason: "MALFORMED_REQUEST" });
  });

  test("takes GET where it has no side effects", async () => {
    const get = await send(store.target, `${path}?encoding=json&message=%7B%7D`, { method: "GET" });
    if (rpc.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS) {
      const post = await send(store.target, path, { body: {} });
      expect([get.httpStatus, get.json]).toEqual([post.httpStatus, post.json]);
    } else {
      expect([get.httpStatus, get.headers["allow"]]).toEqual([405, "POST"]);
    }
  });
});

test("reads have no side effects, and writes do", () => {
  const { NO_SIDE_EFFECTS } = MethodOptions_IdempotencyLevel;
  const reads = rpcs.filter(({ idempotency }) => idempotency === NO_SIDE_EFFECTS);
  const isRead = /^(Get|List|Search|Stream|Watch|Export|Load|Verify)/;
  expect(reads.map(({ name }) => name)).toEqual(
    rpcs.map(({ name }) => name).filter((name) => isRead.test(name)),
  );
});

test.each(streams)("$name says where it is to be called", async (rpc) => {
  const answer = await send(store.target, pathOf(rpc), { body: {} });
  expect(answer.httpStatus).toBe(501);
  expect(answer.json).toEqual({
    code: "unimplemented",
    message: `${rpc.name} streams: call it over ${
      rpc.methodKind === "server_streaming" ? "a WebSocket or gRPC" : "gRPC"
    }`,
  });
});

test.each([
  "/agentstore.v1.AgentStore/NoSuchMethod",
  "/agentstore.v1.AgentStore/getSession",
  "/agentstore.v1.AgentStore/GetSession/",
  "/agentstore.v1.AgentStore/",
  "/agentstore.v2.AgentStore/GetSession",
  "/",
  `/${"x".repeat(4_000)}`,
  "/__proto__",
  "/%00",
])("%s is not found", async (path) => {
  const answer = await send(store.target, path, { body: {} });
  expect([answer.httpStatus, answer.json?.["code"]]).toEqual([404, "unimplemented"]);
});
