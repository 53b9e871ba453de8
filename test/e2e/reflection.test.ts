// Reflection, as grpcurl and `buf curl` use it: everything by address alone.
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { beforeAll, describe, expect, test } from "vitest";
import { bytes, fieldsOf, frame } from "../harness/wire.js";
import { uniqueModel, useStore } from "./store.js";

const store = useStore();

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, "../..");

// ServerReflectionRequest and ServerReflectionResponse, by their field numbers.
const REQUEST = { fileByFilename: 3, fileContainingSymbol: 4, listServices: 7 };
const RESPONSE = { files: 4, services: 6, error: 7 };

describe.each(["v1", "v1alpha"])("%s", (version) => {
  async function ask(field: number, what: string): Promise<Uint8Array> {
    const raw = await store.raw();
    const answer = await raw.send(
      `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
      frame(bytes(field, what)),
    );
    expect([answer.code, answer.messages.length]).toEqual([0, 1]);
    return answer.messages[0]!;
  }

  async function describeSymbol(symbol: string) {
    const answer = await ask(REQUEST.fileContainingSymbol, symbol);
    return fieldsOf(fieldsOf(answer, RESPONSE.files)[0]!, 1).map((file) =>
      fromBinary(FileDescriptorProtoSchema, file),
    );
  }

  test("lists the services", async () => {
    const answer = await ask(REQUEST.listServices, "");
    const services = fieldsOf(fieldsOf(answer, RESPONSE.services)[0]!, 1).map((service) =>
      Buffer.from(fieldsOf(service, 1)[0]!).toString(),
    );
    expect(services).toContain("agentstore.v1.AgentStore");
    expect(services).toContain("agentstore.v1.AgentStoreAdmin");
  });

  test("describes the service with all of its RPCs", async () => {
    const files = await describeSymbol("agentstore.v1.AgentStore");
    const file = files.find(({ name }) => name === "agentstore/v1/agent_store.proto");
    expect(file!.service[0]!.method.map(({ name }) => name)).toEqual(
      expect.arrayContaining([
        "CreateSession",
        "GetSession",
        "UpdateSession",
        "ListSessions",
        "DeleteSession",
        "AddMessage",
        "AddMessages",
        "GetMessage",
        "GetMessages",
        "StreamMessages",
        "SearchMessages",
        "GetSessionStats",
        "AcquireLease",
        "RenewLease",
        "ReleaseLease",
        "LoadContext",
        "RepairSession",
      ]),
    );
  });

  test("keeps what is optional, and the names in JSON", async () => {
    const files = await describeSymbol("agentstore.v1.AddMessageRequest");
    const messages = files.flatMap(({ messageType }) => messageType);
    const request = messages.find(({ name }) => name === "AddMessageRequest");
    const field = request!.field.find(({ name }) => name === "expected_last_seq");
    expect(field).toMatchObject({ proto3Optional: true, jsonName: "expectedLastSeq" });
  });

  test("finds files by name, and what they import", async () => {
    const answer = await ask(REQUEST.fileByFilename, "google/protobuf/struct.proto");
    expect(fieldsOf(answer, RESPONSE.files)).toHaveLength(1);
  });

  test("says what it does not know", async () => {
    for (const field of [REQUEST.fileContainingSymbol, REQUEST.fileByFilename]) {
      expect(fieldsOf(await ask(field, "no.such.thing"), RESPONSE.error)).toHaveLength(1);
    }
    await store.answers();
  });
});

describe("buf curl", () => {
  const flags: string[] = [];
  let base = "";

  beforeAll(async () => {
    const { address, ca, token } = store.target;
    base = `${ca ? "https" : "http"}://${address}`;
    if (ca) {
      const file = path.join(tmpdir(), `agentstore-e2e-${randomUUID()}.pem`);
      await writeFile(file, ca);
      flags.push("--cacert", file);
    } else {
      flags.push("--http2-prior-knowledge");
    }
    if (token) {
      const header = `authorization: Bearer ${token}`;
      flags.push("--header", header, "--reflect-header", header);
    }
  });

  /** Calls an RPC with `npx buf curl`, which learns of it by reflection; returns all answers. */
  async function curl(rpc: string, request: object, protocol = "grpc-v1"): Promise<unknown[]> {
    const call = ["buf", "curl", "--protocol", "grpc", "--reflect-protocol", protocol, ...flags];
    const url = `${base}/agentstore.v1.AgentStore/${rpc}`;
    const { stdout } = await run("npx", [...call, "-d", JSON.stringify(request), url], {
      cwd: root,
    });
    return stdout.split(/^(?=\{)/m).map((answer) => JSON.parse(answer) as unknown);
  }

  test("keeps a conversation", async () => {
    const modelId = uniqueModel();
    const [created] = (await curl("CreateSession", {
      modelId,
      metadata: { a: [1, null] },
    })) as [{ session: { id: string } }];
    const conversationId = created.session.id;
    expect(created).toMatchObject({ session: { modelId, metadata: { a: [1, null] } } });

    const message = { role: "ROLE_USER", content: "漢字 \u0000 🙂" };
    // 0 is sent only because the field is known to be optional.
    const first = { conversationId, message, expectedLastSeq: "0" };
    expect(await curl("AddMessage", first, "grpc-v1alpha")).toMatchObject([
      { message: { seq: "1", content: message.content } },
    ]);
    const { code, stderr } = (await curl("AddMessage", first).catch((error: unknown) => error)) as {
      code: number;
      stderr: string;
    };
    expect(code).not.toBe(0);
    expect(stderr).toContain(`session ${conversationId} has last_seq 1, not 0`);
    expect(stderr).toContain("google.rpc.ErrorInfo");
    await store.appendNumbered(BigInt(conversationId), 2, 5);

    const pages = await curl("StreamMessages", { conversationId, pageSize: 2 });
    expect(pages).toMatchObject([
      { messages: [{ seq: "1", content: message.content }, { seq: "2" }], lastSeq: "2" },
      { messages: [{ seq: "3" }, { seq: "4" }], lastSeq: "4" },
      { messages: [{ seq: "5" }], lastSeq: "5" },
    ]);
    expect(await curl("DeleteSession", { conversationId })).toEqual([{ deleted: true }]);
  });
});
