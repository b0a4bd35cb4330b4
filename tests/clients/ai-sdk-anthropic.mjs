// The Vercel AI SDK with its Anthropic provider: `node ai-sdk-anthropic.mjs BASE_URL FAILING_PROMPT` prints what each call gave.
import { createAnthropic } from "@ai-sdk/anthropic";
import { generateText, streamText } from "ai";

globalThis.AI_SDK_LOG_WARNINGS = false; // on stdout, between us and our reader
const [baseURL, failing] = process.argv.slice(2);
const provider = createAnthropic({ baseURL, apiKey: "any" });
const model = provider("demo");

const found = {};
const whole = await generateText({ model, system: "Be kind.", prompt: "hello" });
found.generate = { text: whole.text, finish: whole.finishReason, usage: whole.usage };

const pieces = [];
const stream = streamText({ model, prompt: "hello", onError: () => {} });
for await (const piece of stream.textStream) pieces.push(piece);
found.stream = { pieces, text: await stream.text, finish: await stream.finishReason, usage: await stream.usage };

found.conversation = (
  await generateText({
    model,
    messages: [
      { role: "user", content: "my name is Ada" },
      { role: "assistant", content: "hello Ada" },
      { role: "user", content: [{ type: "text", text: "and my name?" }] },
    ],
  })
).text;

async function failure(call) {
  try {
    await call();
  } catch (error) {
    const cause = error.lastError ?? error;
    return { name: cause.name, status: cause.statusCode, message: cause.message, isRetryable: cause.isRetryable };
  }
  return null;
}

found.errors = {
  tools: await failure(() => generateText({ model, prompt: "x", maxRetries: 0, providerOptions: { anthropic: { mcpServers: [{ type: "url", name: "m", url: "http://127.0.0.1:1" }] } } })),
  failed: await failure(() => generateText({ model: provider("claude"), prompt: failing, maxRetries: 0 })),
};
let streamed = null;
const broken = streamText({ model: provider("claude"), prompt: failing, maxRetries: 0, onError: ({ error }) => (streamed = error) });
for await (const piece of broken.textStream) void piece;
found.errors.streamed = streamed && { message: streamed.message ?? String(streamed) };
console.log(JSON.stringify(found));
