// gRPC server reflection (v1 and v1alpha), so that grpcurl and `buf curl` need no .proto files.
import { toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type { Server } from "@grpc/grpc-js";
import { ReflectionService } from "@grpc/reflection";
import { descriptorSet } from "./descriptors.js";

/** Adds the reflection service, which tells of all that the .proto files hold. */
export function addReflection(server: Server): void {
  // The raw bytes of each file, as the package wants them beside any definition:
  // its own way from a descriptor set loses `optional` and the JSON names.
  const fileDescriptorProtos = descriptorSet.file.map((file) =>
    Buffer.from(toBinary(FileDescriptorProtoSchema, file)),
  );
  const packageDefinition = { "": { format: "", type: {}, fileDescriptorProtos } };
  new ReflectionService(packageDefinition as never).addToServer(server);
}
