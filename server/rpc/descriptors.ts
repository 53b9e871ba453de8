// The service's own descriptors, as `buf build` wrote them.
import { readFileSync } from "node:fs";
import path from "node:path";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { projectRoot } from "../paths.js";

/** All .proto files of the service, imports included. */
export const descriptorSet = fromBinary(
  FileDescriptorSetSchema,
  readFileSync(path.join(projectRoot, "gen/agentstore.binpb")),
);

/** The types and services in them. */
export const registry = createFileRegistry(descriptorSet);
