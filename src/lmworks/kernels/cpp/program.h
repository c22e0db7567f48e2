#pragma once

#include "abi.h"
#include "workspace.h"

namespace lmworks {

// The forward of a batch: writes its keys and values into the pages, and the logits, best tokens and normalisers of the
// wanted rows, and their hidden states if it has a place for them, into the batch. With an error, nothing is written.
Error run_program(const Model& model, Batch& batch, Workspace& work);

}  // namespace lmworks
