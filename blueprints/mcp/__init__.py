"""The gateway as an MCP server: streamable HTTP at `/mcp`, stateless, without the SDK, whose server needs an event loop of its own."""
