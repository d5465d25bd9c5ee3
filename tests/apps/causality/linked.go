//go:build linked

// Whoever uses C may be linked by C's linker.

package main

import "C"
