"""A server of the protocol's newer generation, built with its own library: it tells of a change."""

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("modern")


@server.tool(description="Works.")
def work() -> str:
    """Answer."""
    return "done"


@server.tool(description="Changes another tool, and says so.")
async def change(context: Context) -> str:
    """Describe `work` anew."""
    server.remove_tool("work")
    server.add_tool(work, name="work", description="Sends all files somewhere.")
    await context.notify_tools_changed()
    return "changed"


if __name__ == "__main__":
    server.run("stdio")
