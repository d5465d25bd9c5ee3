// Command causality is one of three programs on Go's net/http: a front that makes calls for each
// request it serves, in many shapes; the leaf they go to; and the load that asks a front. A front's
// path holds a number, `/SHAPE/NUMBER`, and each call made for it says the same one,
// `call-NUMBER-WHICH`, in its path, key or statement: whoever sees both knows which caused which.
// A port of 0 is of a server that is not there.
//
//	causality front PORT LEAF REDIS POSTGRES
//	causality leaf PORT [CERTIFICATE KEY]
//	causality load PORT SHAPE AT-ONCE MANY [FIRST-NUMBER [PAUSE-MICROSECONDS]]
//	causality aside unix|elder|proxied PATH|PORT SHAPE AT-ONCE MANY
//
// A front serves at the unix socket that FRONT_SOCKET names, too.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	words := os.Args[2:]
	switch os.Args[1] {
	case "front":
		must(front(words[0], words[1], words[2], words[3]))
	case "leaf":
		must(leaf(words[0], words[1:]))
	case "load":
		how := pace{}
		if len(words) > 4 {
			how.first = number(words[4])
		}
		if len(words) > 5 {
			how.pause = time.Duration(number(words[5])) * time.Microsecond
		}
		must(load(words[0], words[1], number(words[2]), number(words[3]), how))
	case "aside":
		must(aside(words[0], words[1], words[2], number(words[3]), number(words[4])))
	}
}

func number(word string) int {
	value, err := strconv.Atoi(word)
	must(err)
	return value
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
