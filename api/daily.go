package api

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/jackc/pgx/v5"

	"github.com/clearward/clearward/clearing"
	"github.com/clearward/clearward/ledger"
)

// DailyFile writes the standard bill file of a hospital's day to out.
func (s *Server) DailyFile(ctx context.Context, hospital string, day ledger.Day, out io.Writer) error {
	return s.dailyFile(ctx, hospital, day, func(file *os.File) error {
		_, err := io.Copy(out, file)
		return err
	})
}

// dailyFile hands the file out once it is whole: the transaction that reads it may
// be tried again.
func (s *Server) dailyFile(ctx context.Context, hospital string, day ledger.Day, take func(*os.File) error) error {
	file, err := os.CreateTemp("", "clearward-daily-")
	if err != nil {
		return err
	}
	defer file.Close()
	if err := os.Remove(file.Name()); err != nil {
		return err
	}
	if err := s.writeDaily(ctx, hospital, day, file); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return take(file)
}

// DailyFileAt writes it to a path, whole or not at all.
func (s *Server) DailyFileAt(ctx context.Context, hospital string, day ledger.Day, path string) error {
	file, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	if err := errors.Join(s.writeDaily(ctx, hospital, day, file), file.Close()); err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return os.Rename(file.Name(), path)
}

func (s *Server) writeDaily(ctx context.Context, hospital string, day ledger.Day, file *os.File) error {
	return s.DB.ReadTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := file.Truncate(0); err != nil {
			return err
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		_, err := clearing.WriteDaily(ctx, tx, hospital, day, file)
		return err
	})
}
