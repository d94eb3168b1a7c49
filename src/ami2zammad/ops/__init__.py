"""What operators and programs beside the bridge reach it by: HTTP."""
