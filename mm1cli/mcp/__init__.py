"""An MCP server over documents: `mm1 mcp PATHS`."""
