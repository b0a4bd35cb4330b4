// The Vercel AI SDK with its OpenAI provider: `node ai-sdk-openai.mjs BASE_URL FAILING_PROMPT` prints what each call gave, as JSON.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";

globalThis.AI_SDK_LOG_WARNINGS = false; // on stdout, between us and our reader
const [baseURL, failing] = process.argv.slice(2);
const provider = createOpenAI({ baseURL, apiKey: "any" });

async function failure(call) {
  try {
    await call();
  } catch (error) {
    return { name: error.name, status: error.statusCode, message: error.message };
  }
  return null;
}

async function calls(model) {
  const found = {};
  const whole = await generateText({ model: model("demo"), system: "Be kind.", prompt: "hello" });
  found.generate = { text: whole.text, finish: whole.finishReason, usage: whole.usage };

  const pieces = [];
  const stream = streamText({ model: model("demo"), prompt: "hello", onError: () => {} });
  for await (const piece of stream.textStream) pieces.push(piece);
  found.stream = { pieces, text: await stream.text, finish: await stream.finishReason, usage: await stream.usage };

  // What was answered goes back as the SDK gave it: with references to the items of the Responses API.
  const messages = [{ role: "user", content: "my name is Ada" }];
  const first = await generateText({ model: model("claude"), system: "Be kind.", messages });
  messages.push(...first.response.messages, { role: "user", content: "and who am I, AI SDK?" });
  found.conversation = (await generateText({ model: model("claude"), system: "Be kind.", messages })).text;

  let streamed = null;
  const broken = streamText({ model: model("claude"), prompt: failing, maxRetries: 0, onError: ({ error }) => (streamed = error) });
  for await (const piece of broken.textStream) void piece;
  found.errors = {
    image: await failure(() =>
      generateText({ model: model("demo"), messages: [{ role: "user", content: [{ type: "image", image: new URL("https://example.com/a.png") }] }] }),
    ),
    failed: await failure(() => generateText({ model: model("claude"), prompt: failing, maxRetries: 0 })),
    streamed: streamed && { message: streamed.message ?? JSON.stringify(streamed) },
  };
  return found;
}

console.log(JSON.stringify({ responses: await calls((name) => provider(name)), chat: await calls((name) => provider.chat(name)) }));
