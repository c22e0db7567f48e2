#pragma once

#define LMWORKS_EXPORT extern "C" __attribute__((visibility("default")))
