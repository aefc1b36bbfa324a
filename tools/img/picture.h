/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A picture (SVG or PNG) of where the contents of an image are stored. */
#ifndef TENON_TOOLS_IMG_PICTURE_H
#define TENON_TOOLS_IMG_PICTURE_H

#include "img.h"

typedef enum ImgShade { IMG_SHADE_NOTHING, IMG_SHADE_ZERO, IMG_SHADE_DATA, IMG_SHADE_PACKED } ImgShade;

typedef struct ImgPicture ImgPicture;

/* Whether a picture can be written under that name. */
int img_picture_check (const char *filename, GError **error);
/* Of [@start, @end) of @node. */
ImgPicture *img_picture_new (TnNode *node, uint64_t start, uint64_t end);
void img_picture_free (ImgPicture *picture);
G_DEFINE_AUTOPTR_CLEANUP_FUNC (ImgPicture, img_picture_free)
/* A stretch that is of one kind; @depth is that of the image in the chain that holds it. */
void img_picture_add (ImgPicture *picture, uint64_t offset, uint64_t length, ImgShade shade, unsigned depth);
int img_picture_write (ImgPicture *picture, const char *filename, GError **error);

#endif
