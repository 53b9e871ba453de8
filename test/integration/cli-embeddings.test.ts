// `agentstore embeddings`, against a server whose endpoint refuses a message.
import { afterAll, beforeAll, expect, test } from "vitest";
import { EmbeddingsServer } from "../harness/embeddings-server.js";
import { until } from "../harness/postgres-watch.js";
import { startServer, type TestServer } from "../harness/server.js";
import { newMessage, Stubs } from "../harness/stubs.js";
import { run } from "./cli-run.js";

let endpoint: EmbeddingsServer;
let server: TestServer;
let id: bigint;

beforeAll(async () => {
  endpoint = await EmbeddingsServer.start();
  endpoint.behaviour = ({ input }, response) => {
    if (!input.some((text) => text.includes("poison"))) return false;
    response.writeHead(400).end();
    return true;
  };
  server = await startServer({ embeddings: { url: endpoint.url, model: "test-embeddings" } });
  const stubs = new Stubs(server.address);
  const { session } = await stubs.call("createSession", { modelId: "gpt-4" });
  id = session!.id;
  const messages = ["my cat", "poison"].map((content) => newMessage({ content }));
  await stubs.call("addMessages", { conversationId: id, messages });
  stubs.close();
});

afterAll(async () => {
  await server.stop();
  await endpoint.stop();
});

const embeddings = (...args: string[]) => run(["embeddings", ...args, "--url", server.url]);

test("shows what could not be embedded, and has it tried again", async () => {
  const json = await until("the message is given up", async () => {
    const { stdout } = await embeddings("status", "--json");
    const status = JSON.parse(stdout) as Record<string, unknown>;
    return status["failedEmbeddings"] === "1" && status["pendingEmbeddings"] === "0" && status;
  });
  expect(json).toMatchObject({ embeddingModel: "test-embeddings", embeddingDimensions: 7 });
  const shown = await embeddings("status");
  expect(shown.stdout).toMatch(/^messages given up +1$/m);
  expect(shown.stdout).toMatch(/^model of embeddings +test-embeddings$/m);
  const failures = await embeddings("failures");
  expect(failures.stdout).toMatch(new RegExp(`${id} +2 +2 .*it answered with HTTP status 400`));
  expect((await embeddings("failures", "--session", String(id + 1n))).stdout).toBe(
    "There are none.\n",
  );
  endpoint.behaviour = undefined;
  expect((await embeddings("retry", "--session", String(id + 1n))).stdout).toBe(
    "0 messages wait again.\n",
  );
  expect((await embeddings("retry")).stdout).toBe("1 message waits again.\n");
  await until(
    "the message is embedded",
    () => endpoint.texts.filter((t) => t === "poison").length > 2,
  );
});

test.each([
  [["--embeddings-url", "http://127.0.0.1:1/v1"], "needed together"],
  [["--embeddings-model", "m"], "needed together"],
  [["--embeddings-url", "ftp://x", "--embeddings-model", "m"], "must be a URL"],
  [["--embeddings-url", "http://u:p@x/v1", "--embeddings-model", "m"], "must hold no password"],
  [["--embeddings-dimensions", "4001"], "from 1 to 4000"],
])("serve refuses %j", async (flags, text) => {
  const { code, stderr } = await run(["serve", ...flags]);
  expect(code).toBe(2);
  expect(stderr).toContain(text);
});
