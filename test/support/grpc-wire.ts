import {
  connect,
  constants,
  createServer,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo } from 'node:net';

/** How a gRPC call is answered by somebody who is not the server: its code and words. */
export interface GrpcStatus {
  readonly code: number;
  readonly message: string;
}

/** What Core takes for final at once, without the minute for which it bears with a proxy's codes. */
export const FINAL: GrpcStatus = { code: 8, message: 'grpc: received message larger than max' };
export const FORBIDDEN: GrpcStatus = { code: 7, message: 'the wire forbids it' };

export type WireAnswer = (method: string) => GrpcStatus | undefined;

export interface GrpcWire {
  /** `host:port`, without TLS. */
  readonly address: string;
  /** Answers in the server's place from now on, also calls that wait for their answer (polls); `undefined` for what passes. */
  answer(by: WireAnswer): void;
  close(): Promise<void>;
}

/** A proxy on a free loopback port before a gRPC server. It passes everything on until it is told otherwise. */
export async function startGrpcWire(target: string): Promise<GrpcWire> {
  const upstream = connect(`http://${target}`);
  upstream.on('error', () => undefined);
  let answerBy: WireAnswer = () => undefined;
  const waiting = new Map<ServerHttp2Stream, string>();
  const sessions = new Set<ServerHttp2Session>();

  const refuse = (stream: ServerHttp2Stream, { code, message }: GrpcStatus): void => {
    waiting.delete(stream);
    if (stream.destroyed || stream.headersSent) return;
    const headers = {
      ':status': 200,
      'content-type': 'application/grpc',
      'grpc-status': String(code),
      'grpc-message': message,
    };
    stream.respond(headers, { endStream: true });
  };
  const pass = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void => {
    const onward = upstream.request(headers);
    onward.on('error', () => stream.close(constants.NGHTTP2_CANCEL));
    stream.on('close', () => {
      waiting.delete(stream);
      onward.close(constants.NGHTTP2_CANCEL);
    });
    stream.pipe(onward);
    onward.on('response', (reply, flags) => {
      waiting.delete(stream);
      if (stream.destroyed || stream.headersSent) return;
      if (flags & constants.NGHTTP2_FLAG_END_STREAM) {
        stream.respond(reply, { endStream: true });
        return;
      }
      let trailers: IncomingHttpHeaders = {};
      onward.on('trailers', (sent) => {
        trailers = sent;
      });
      stream.on('wantTrailers', () => stream.sendTrailers(trailers));
      stream.respond(reply, { waitForTrailers: true });
      onward.pipe(stream);
    });
  };

  const server = createServer();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('error', () => undefined);
    session.once('close', () => sessions.delete(session));
  });
  server.on('stream', (stream, headers) => {
    const method = headers[':path']?.split('/').at(-1) ?? '';
    stream.on('error', () => undefined);
    const status = answerBy(method);
    if (status) return refuse(stream, status);
    waiting.set(stream, method);
    pass(stream, headers);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    answer(by) {
      answerBy = by;
      for (const [stream, method] of waiting) {
        const status = by(method);
        if (status) refuse(stream, status);
      }
    },
    async close() {
      for (const session of sessions) session.destroy();
      upstream.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
