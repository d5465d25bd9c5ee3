// An S3 store, versitygw's on plain files: `s3 ADDRESS FOLDER`. What it knows of objects is kept in files too,
// as not every file system has extended attributes.
package main

import (
	"context"
	"log"
	"os"
	"path/filepath"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	log.Fatal(serve(os.Args[1], os.Args[2]))
}

func serve(address, folder string) error {
	objects, known := filepath.Join(folder, "objects"), filepath.Join(folder, "known")
	for _, folder := range []string{objects, known} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	beside, err := meta.NewSideCar(known)
	if err != nil {
		return err
	}
	store, err := posix.New(objects, beside, posix.PosixOpts{
		SideCarDir:          known,
		CopyObjectThreshold: 1 << 20,
	})
	if err != nil {
		return err
	}
	return embedgw.RunVersityGW(context.Background(), store, &embedgw.Config{
		RootUserAccess:    "live",
		RootUserSecret:    "secret",
		Region:            "eu-central-1",
		Ports:             []string{address},
		MaxConnections:    100,
		MaxRequests:       100,
		MultipartMaxParts: 100,
	})
}
