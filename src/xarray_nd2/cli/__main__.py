"""Run the command as ``python -m xarray_nd2.cli``."""

from xarray_nd2.cli.main import main

raise SystemExit(main())
